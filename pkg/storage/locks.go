package storage

import (
	"errors"
	"os"
	"path/filepath"
)

// linkLocks puts the store's lock files into dir, in memory, and links to them
// where the store looks. It opens them for writing whatever it is asked, panics
// where it cannot, and leaves the lock locked behind: on a disk that has turned
// read-only even a look would end the daemon. Their contents say only which
// process has written last, of those that run.
func linkLocks(root, dir, driver string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for _, name := range []string{
		"storage.lock", "userns.lock",
		filepath.Join(driver+"-layers", "layers.lock"),
		filepath.Join(driver+"-images", "images.lock"),
		filepath.Join(driver+"-containers", "containers.lock"),
	} {
		if err := linkLock(filepath.Join(root, name), filepath.Join(dir, filepath.Base(name))); err != nil {
			return err
		}
	}
	return nil
}

func linkLock(link, file string) error {
	for _, dir := range []string{filepath.Dir(link), filepath.Dir(file)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if old, err := os.Readlink(link); err == nil && old == file {
		return nil
	}
	fresh := link + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(file, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, link)
}
