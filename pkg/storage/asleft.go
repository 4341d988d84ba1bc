package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/storage/pkg/mount"
	"golang.org/x/sys/unix"
)

// leftName is the file in the run-time directory that says how the last process left the store.
const leftName = "left"

// AsLeft says whether a store is as a process of this program has left it that
// closed it in order, in this boot and with these options, and whether nothing of
// it is mounted. To open it is no more than to read it then: there is nothing to
// mend, nobody to warn and nothing to unmount, so it can wait until it is needed.
func AsLeft(o Options) bool {
	told, err := os.ReadFile(filepath.Join(o.RunRoot, leftName))
	if err != nil {
		return false
	}
	now, err := o.state()
	if err != nil || !bytes.Equal(told, now) {
		return false
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(o.GraphRoot, &disk); err != nil || disk.Bavail == 0 || disk.Flags&unix.ST_RDONLY != 0 {
		return false
	}
	return o.nothingMounted()
}

// state is what has to be the same.
func (o Options) state() ([]byte, error) {
	driver, err := priorDriver(o.GraphRoot)
	if err != nil {
		return nil, err
	}
	if driver == fuseOverlayfs {
		driver = driverOverlay
	}
	s := fmt.Appendf(nil, "%s %s %q %q %q %s\n", bootID(), o.Build, o.GraphRoot, o.Driver, o.DriverOptions, driver)
	for _, name := range (&lists{root: o.GraphRoot, run: o.RunRoot, driver: driver}).all() {
		var st unix.Stat_t
		err := unix.Stat(name, &st)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		s = fmt.Appendf(s, "%d %d %d.%09d\n", st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec)
	}
	return s, nil
}

// nothingMounted says so by the kernel's list, and by the store's.
func (o Options) nothingMounted() bool {
	now, err := mount.GetMounts()
	if err != nil {
		return false
	}
	for _, m := range now {
		for _, root := range []string{o.GraphRoot, o.RunRoot} {
			if strings.HasPrefix(m.Mountpoint, root+"/") {
				return false
			}
		}
	}
	counted, err := filepath.Glob(filepath.Join(o.RunRoot, "*-layers", filepath.Base((&lists{}).mounts())))
	if err != nil {
		return false
	}
	for _, name := range counted {
		list, err := readList[mountPoint](name, false)
		if err != nil || len(list) > 0 {
			return false
		}
	}
	return true
}

// Left notes for [AsLeft] that a store has been closed, and that all was well with it.
func (s *Storage) Left() {
	now, err := s.options.state()
	if err == nil {
		err = replace(filepath.Join(s.options.RunRoot, leftName), now, false)
	}
	if err != nil {
		s.log.Debug("the next process has to look at the store", "because", err)
	}
}

// forgetLeft is called before anything is opened: whoever is killed has left nothing in order.
func (o Options) forgetLeft() error {
	if err := os.Remove(filepath.Join(o.RunRoot, leftName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
