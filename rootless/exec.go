package rootless

import (
	"fmt"
	"os"
	"syscall"

	"github.com/moss-containers/moss/pkg/names"
)

// Exec replaces this process by the holder program, found beside our own
// executable or else in PATH, and gives it args. It returns only with an error.
func Exec(args []string) error { return replace(names.Rootless, args) }

// ExecGvisor does so with the one that has gvisor-tap-vsock. Its name as a process
// stays that of the holder.
func ExecGvisor(args []string) error { return replace(names.Gvisor, args) }

func replace(program string, args []string) error {
	path, err := names.Find(program)
	if err != nil {
		return err
	}
	if err := syscall.Exec(path, append([]string{names.Rootless}, args...), os.Environ()); err != nil {
		return fmt.Errorf("cannot run %s: %w", path, err)
	}
	return nil
}
