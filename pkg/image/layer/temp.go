package layer

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// tempFile makes a file without a name: it goes with its last descriptor.
func tempFile(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, "layer-"); err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}
