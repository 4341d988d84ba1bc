package holder

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/rootless"
)

// watch calls wake once a watched file can be read, and again until it succeeds.
// The function it returns ends that and waits for the end.
func watch(files []rootless.Kept, wake func() error) (stop func(), err error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Written to at the end.
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(ep))
	}
	fail := func(err error) (func(), error) { return nil, errors.Join(err, unix.Close(ep), unix.Close(end)) }
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, end, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 1}); err != nil {
		return fail(os.NewSyscallError("epoll_ctl", err))
	}
	for _, f := range files {
		if !f.Watch {
			continue
		}
		raw, err := f.File.SyscallConn()
		if err != nil {
			return fail(err)
		}
		var serr error
		// By edges: a terminal that nobody has open any more hangs up, and there is nothing to do about it.
		err = raw.Control(func(fd uintptr) {
			serr = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET})
		})
		if errors.Is(serr, unix.EPERM) { // a regular file, or one in memory: there is nothing to wait for
			serr = nil
		}
		if err = errors.Join(err, serr); err != nil {
			return fail(fmt.Errorf("cannot watch %q: %w", f.Name, err))
		}
	}
	ended := make(chan struct{})
	var w sync.WaitGroup
	w.Go(func() {
		if awaitReadable(ep) {
			insist(wake, ended)
		}
	})
	return func() {
		close(ended)
		_, _ = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it is empty: the write succeeds
		w.Wait()
		_, _ = unix.Close(ep), unix.Close(end)
	}, nil
}

// awaitReadable returns true when a file can be read, false at the end.
func awaitReadable(ep int) bool {
	events := make([]unix.EpollEvent, 16)
	for {
		n, err := unix.EpollWait(ep, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return true // rather too often than never
		}
		readable := false
		for _, e := range events[:n] {
			if e.Fd == 1 {
				return false
			}
			readable = readable || e.Events&unix.EPOLLIN != 0
		}
		if readable {
			return true
		}
	}
}

// insist calls wake until it succeeds or ended is closed.
func insist(wake func() error, ended <-chan struct{}) {
	for pause := firstWakePause; wake() != nil; pause = min(2*pause, longestWakePause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ended:
			timer.Stop()
			return
		}
	}
}
