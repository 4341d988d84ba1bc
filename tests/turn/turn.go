// Package turn lets test packages that act on the one user manager of the
// machine, which reload it and count its units, take turns; go test runs
// packages side by side.
package turn

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// file holds the lock for the life of the process.
var file *os.File

// Take waits until no other test process has the turn, and keeps it until this
// process ends. Where there is no user manager there is nothing to share.
func Take() error {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" || file != nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, "moss-tests.lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	file = f
	return err
}
