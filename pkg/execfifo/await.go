// Package execfifo takes the byte for which a created container's init waits at
// its fifo (create and start, OCI runtime spec): moss-runtime's start does so, and
// the daemon itself, for which a process would cost too much.
//
// An init that waits in open(2) goes on as soon as there is a reader; if that one is
// killed before it has read, init ends with a broken pipe: the program never ran, and
// all looks as if it had. So moss's init fills its fifo and reads it itself (Fill): it
// waits in write(2), and what lets it go is one read that takes all there is. Who dies
// before has done nothing; after it nothing stops init.
package execfifo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// What can be in the way of the byte.
var (
	ErrEnded = errors.New("its process has ended before the start")
	// ErrTaken: of two starts at a time the other got the byte.
	ErrTaken = errors.New("it is already running")
	// ErrGone: whoever let it go was killed before it could take the fifo away.
	ErrGone = errors.New("it is already running, and its fifo was left")
)

// grace is how long init gets to write its byte, for which it only has to be
// woken, before it is asked whether it still is at the fifo.
const grace = 200 * time.Millisecond

// Await reads the byte, and before it what init may have filled the fifo with, which
// is open for reading and does not block: init, which is pid and pidfd, may die first.
func Await(ctx context.Context, pid, pidfd, fifo int) error {
	buf := make([]byte, os.Getpagesize()) // all that Fill writes
	fds := []unix.PollFd{{Fd: int32(fifo), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(grace.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n > 0 && fds[0].Revents == 0:
			return ErrEnded
		case n == 0:
			if err := ctx.Err(); err != nil {
				return err
			}
			if Held(pid, fifo) {
				continue
			}
			// Asked after the grace and followed by a look: what it wrote is there by now.
			if n, err := unix.Poll(fds[:1], 0); err != nil || n == 0 {
				return ErrGone
			}
		}
		n, err = unix.Read(fifo, buf)
		switch {
		case n > 0 && buf[n-1] == letsGo:
			return nil
		case n > 0: // what it was filled with
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("read", err)
		default: // the writer has come and gone
			return ErrTaken
		}
	}
}

// Held says whether a container's init still has the fifo: it gives it up when it
// has written its byte, also one that a killed reader never took. Where nobody can
// tell it has.
func Held(pid, fifo int) bool {
	var want unix.Stat_t
	if err := unix.Fstat(fifo, &want); err != nil {
		return true
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return true
	}
	for _, d := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, d.Name()), &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
			return true
		}
	}
	return false
}
