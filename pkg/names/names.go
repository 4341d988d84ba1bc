// Package names has what moss's programs and the network drivers of its namespaces
// are called, and finds the programs.
package names

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Programs.
const (
	Daemon   = "mossd"
	Runtime  = "moss-runtime"
	Rootless = "moss-rootless" // holds the namespaces
	Gvisor   = "moss-gvisor"   // the same with the network driver gvisor-tap-vsock
)

// Network drivers.
const (
	DriverAuto   = "auto"
	DriverPasta  = "pasta"
	DriverSlirp  = "slirp4netns"
	DriverGvisor = "gvisor-tap-vsock"
	DriverNone   = "none"
)

// Drivers are the values a configuration may name.
func Drivers() []string {
	return []string{DriverAuto, DriverPasta, DriverSlirp, DriverGvisor, DriverNone}
}

// Find is the path of a program of ours: beside the one that runs, or else in PATH.
func Find(program string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find %s: %w", program, err)
	}
	return find(program, filepath.Dir(self))
}

func find(program, dir string) (string, error) {
	beside := filepath.Join(dir, program)
	switch err := unix.Access(beside, unix.X_OK); {
	case err == nil:
		return beside, nil
	case !errors.Is(err, fs.ErrNotExist): // another version from PATH would be a surprise
		return "", fmt.Errorf("cannot run %s: %w", beside, err)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("cannot find %s, neither as %s nor in PATH; install it with: make install", program, beside)
	}
	return path, nil
}
