package rootless

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Binary is the program that holds the namespaces; GvisorBinary is the same with
// the network driver gvisor-tap-vsock, and has its place where that is chosen.
const (
	Binary       = "moss-rootless"
	GvisorBinary = "moss-gvisor"
)

// Exec replaces this process by the holder program, found beside our own
// executable or else in PATH, and gives it args. It returns only with an error.
func Exec(args []string) error { return replace(Binary, args) }

// ExecGvisor does so with the one that has gvisor-tap-vsock. Its name as a process
// stays that of the holder.
func ExecGvisor(args []string) error { return replace(GvisorBinary, args) }

func replace(program string, args []string) error {
	path, err := find(program)
	if err != nil {
		return err
	}
	if err := syscall.Exec(path, append([]string{Binary}, args...), os.Environ()); err != nil {
		return fmt.Errorf("cannot run %s: %w", path, err)
	}
	return nil
}

func find(program string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", program, err)
	}
	beside := filepath.Join(filepath.Dir(self), program)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot find %s: %w", program, err)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("cannot find %s, neither as %s nor in PATH; install it with: make install", program, beside)
	}
	return path, nil
}
