package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/moss-containers/moss/userns"
)

// notRun is a command that mossd could not become; code is what a shell would end with.
type notRun struct {
	code int
	err  error
}

func (e *notRun) Error() string { return e.err.Error() }
func (e *notRun) Unwrap() error { return e.err }

// become makes this process, which is in the engine's namespaces by now (package
// userns), the command.
func become(argv []string) error {
	if !userns.Joined() || len(argv) == 0 {
		return errors.New("mossd unshare works inside the engine's user namespace only: use moss unshare COMMAND")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return &notRun{127, err}
	}
	return &notRun{126, fmt.Errorf("cannot run %q: %w", argv[0], syscall.Exec(path, argv, os.Environ()))}
}
