package stdio

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// pipe makes a pipe. Our end does not block and is known to the poller; the
// process's end blocks, as programs expect.
func pipe(weRead bool) (ours, child *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	mine, theirs := p[1], p[0]
	if weRead {
		mine, theirs = p[0], p[1]
	}
	if err := unix.SetNonblock(mine, true); err != nil {
		_, _ = unix.Close(mine), unix.Close(theirs)
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(mine), "pipe"), os.NewFile(uintptr(theirs), "pipe"), nil
}

// adopt returns a file of our own for an inherited one, which it closes. The
// poller knows it, whatever its flags were.
func adopt(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, os.ErrNotExist
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	err = rc.Control(func(old uintptr) {
		if fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3); dupErr == nil {
			dupErr = unix.SetNonblock(fd, true)
		}
	})
	if err = errors.Join(err, dupErr, f.Close()); err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// control runs fn with a file's descriptor.
func control(f *os.File, fn func(fd int) error) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	inner := error(nil)
	if err := rc.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// bothWays opens a pipe of its own for reading and writing, without blocking.
func bothWays() (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, os.NewSyscallError("pipe2", err)
	}
	defer func() { _, _ = unix.Close(p[0]), unix.Close(p[1]) }()
	path := "/proc/self/fd/" + strconv.Itoa(p[0])
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// pending returns how many bytes a pipe holds (FIONREAD, which is TIOCINQ).
func pending(fd int) (int, error) {
	for {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		if !errors.Is(err, unix.EINTR) {
			return n, os.NewSyscallError("ioctl FIONREAD", err)
		}
	}
}

// retry calls a system call again while signals interrupt it.
func retry(fn func() (int, error)) (int, error) {
	for {
		n, err := fn()
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// duplicate returns a file for a copy of a descriptor.
func duplicate(fd int) (*os.File, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(n), "pipe"), nil
}
