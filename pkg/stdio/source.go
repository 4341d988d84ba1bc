package stdio

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// source is what a pump reads: it waits for output with Go's poller, or, of a
// pipe that is hot, by the clock.
//
// A hot pipe is not known to the poller at all: Go's is edge-triggered, so that
// each write would wake a thread of the daemon, whether anybody waits or not.
type source struct {
	mu    sync.Mutex
	file  *os.File // while the poller waits for it
	fd    int      // while the clock does
	clock *os.File // a timerfd(2), as Go's own timers are late by up to a millisecond; nil where the poller waits
	over  bool     // interrupted

	large *atomic.Int32 // how many pipes of the hub are large
	grown bool          // this one is
}

// A hot pipe is made large where it may be. A user's pipes may have so many
// pages together (pipe-user-pages-soft, see pipe(7)), and beyond that each new
// one has two: the rest is left to others.
const (
	largePipe = 4 * chunkSize
	maxLarge  = 16 // pipes at a time
)

// newSource returns nil for nil.
func (h *Hub) newSource(f *os.File) *source {
	if f == nil {
		return nil
	}
	return &source{file: f, fd: -1, large: &h.large}
}

// wait calls read when there may be something, until it returns true. The
// error is that of an interruption.
func (s *source) wait(read func(fd int) bool) error {
	rc, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	return rc.Read(func(fd uintptr) bool { return read(int(fd)) })
}

// waitUntil calls read at a given time.
func (s *source) waitUntil(due time.Time, read func(fd int)) error {
	if d := time.Until(due); d > minGather/4 {
		if err := sleep(s.clock, d); err != nil {
			return err
		}
	}
	if s.interrupted() {
		return os.ErrDeadlineExceeded
	}
	read(s.fd)
	return nil
}

// now calls fn with the descriptor, also after an interruption.
func (s *source) now(fn func(fd int) error) error {
	if s.hot() {
		return fn(s.fd)
	}
	return control(s.file, fn)
}

// hot says that the clock is waited for. Only the pump changes that.
func (s *source) hot() bool { return s.clock != nil }

// heat takes a pipe from the poller and returns what it holds now.
func (s *source) heat() (size int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return 0, os.ErrDeadlineExceeded
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return 0, os.NewSyscallError("timerfd_create", err)
	}
	clock, fd := os.NewFile(uintptr(timer), "timer"), -1
	err = control(s.file, func(old int) (err error) {
		if fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		return nil
	})
	if err != nil {
		return 0, errors.Join(err, clock.Close())
	}
	_ = s.file.Close() // there is another descriptor of it
	s.file, s.fd, s.clock = nil, fd, clock
	return s.growLocked(), nil
}

// cool gives a pipe back to the poller, which tells of what has come meanwhile.
func (s *source) cool() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shrinkLocked()
	_ = s.clock.Close() // nothing is in it
	s.file, s.fd, s.clock = os.NewFile(uintptr(s.fd), "pipe"), -1, nil
	if s.over {
		interrupt(s.file)
	}
}

// growLocked makes the pipe large where that may be, and returns what it holds.
func (s *source) growLocked() int {
	if s.large.Add(1) <= maxLarge {
		if n, err := unix.FcntlInt(uintptr(s.fd), unix.F_SETPIPE_SZ, largePipe); err == nil {
			s.grown = true
			return n
		}
	}
	s.large.Add(-1)
	n, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return chunkSize
	}
	return n
}

func (s *source) shrinkLocked() {
	if !s.grown {
		return
	}
	s.large.Add(-1)
	s.grown = false
	// One that is not empty may stay large until it has been hot again.
	_, _ = unix.FcntlInt(uintptr(s.fd), unix.F_SETPIPE_SZ, chunkSize)
}

// sleep waits on a timer.
func sleep(clock *os.File, d time.Duration) error {
	rc, err := clock.SyscallConn()
	if err != nil {
		return err
	}
	set, setErr := false, error(nil)
	err = rc.Read(func(fd uintptr) bool {
		if !set {
			set = true
			setErr = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
			return setErr != nil
		}
		var b [8]byte
		_, err := unix.Read(int(fd), b[:])
		return !errors.Is(err, unix.EAGAIN)
	})
	return errors.Join(err, os.NewSyscallError("timerfd_settime", setErr))
}

// interrupt makes the pump stop waiting.
func (s *source) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, f := range []*os.File{s.file, s.clock} {
		if f != nil {
			interrupt(f)
		}
	}
}

func (s *source) interrupted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// close is called once no pump reads any more.
func (s *source) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hot() {
		return s.file.Close()
	}
	s.shrinkLocked()
	return errors.Join(unix.Close(s.fd), s.clock.Close())
}

// interrupt makes the one who waits for a file stop that.
func interrupt(f *os.File) { _ = f.SetReadDeadline(time.Unix(1, 0)) } // known to the poller
