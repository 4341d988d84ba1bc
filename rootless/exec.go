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

// Binary is the program that holds the namespaces.
const Binary = "moss-rootless"

// Exec replaces this process by the holder program, found beside our own
// executable or else in PATH, and gives it args. It returns only with an error.
func Exec(args []string) error {
	path, err := find()
	if err != nil {
		return err
	}
	if err := syscall.Exec(path, append([]string{Binary}, args...), os.Environ()); err != nil {
		return fmt.Errorf("cannot run %s: %w", path, err)
	}
	return nil
}

func find() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", Binary, err)
	}
	beside := filepath.Join(filepath.Dir(self), Binary)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot find %s: %w", Binary, err)
	}
	path, err := exec.LookPath(Binary)
	if err != nil {
		return "", fmt.Errorf("cannot find %s, neither as %s nor in PATH; install it with: make install", Binary, beside)
	}
	return path, nil
}
