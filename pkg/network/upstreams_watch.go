package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// watch calls changed when the file may have become another one, until unwatched: it
// looks at the directory that it is in, and at that of what it is a link to.
func (u *upstreams) watch(changed func()) (unwatch func() error, err error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", u.path, err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if err = u.look(f); err != nil {
		_ = f.Close() // already failing
		return nil, fmt.Errorf("cannot watch %s: %w", u.path, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			_ = u.look(f) // the directory goes with all that is in it
			changed()
		}
	}()
	return func() error {
		err := f.Close()
		<-ended
		return err
	}, nil
}

// look adds the directories, anew each time: the link may lead elsewhere.
func (u *upstreams) look(f *os.File) error {
	const what = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var in error
	err = raw.Control(func(fd uintptr) {
		if target, err := filepath.EvalSymlinks(u.path); err == nil {
			_, _ = unix.InotifyAddWatch(int(fd), filepath.Dir(target), what) // it was there just now
		}
		_, in = unix.InotifyAddWatch(int(fd), filepath.Dir(u.path), what)
	})
	return errors.Join(err, in)
}
