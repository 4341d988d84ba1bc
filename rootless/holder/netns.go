package holder

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// How long a connection to a container may take to be made.
const (
	sourceTimeout = time.Second // from the client's address; then without
	plainTimeout  = 10 * time.Second
)

// nsThread is one thread of this process in another network namespace. A socket
// belongs to the namespace it was made in for good, so all else is done outside.
type nsThread struct {
	work chan func()
}

// startNSThread enters the namespace bound at path. The thread lives as long as
// the process.
func startNSThread(path string) (*nsThread, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot enter the network namespace: %w", err)
	}
	defer f.Close()
	t := &nsThread{work: make(chan func())}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoilt for others
		err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		entered <- err
		if err != nil {
			return
		}
		for fn := range t.work {
			fn()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("cannot enter the network namespace: %w", err)
	}
	return t, nil
}

// do runs fn in the namespace. It must not wait for the network: all connections
// come through here.
func (t *nsThread) do(fn func() error) error {
	done := make(chan error, 1)
	t.work <- func() { done <- fn() }
	return <-done
}

// makeSockets makes up to count sockets of the namespace, at least one.
func (t *nsThread) makeSockets(family, kind, count int) (fds []int, err error) {
	err = t.do(func() error {
		for range count {
			fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil && len(fds) == 0 {
				return fmt.Errorf("cannot make a socket: %w", err)
			}
			if err != nil { // short of files: some are better than none
				return nil //nolint:nilerr // as said
			}
			fds = append(fds, fd)
		}
		return nil
	})
	return fds, err
}

func family(a netip.Addr) int {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// connect connects a socket, which is its own from now on. With a valid from it
// is bound to that address, which need not be its namespace's.
func connect(fd int, to, from netip.AddrPort, timeout time.Duration) (f *os.File, err error) {
	if from.IsValid() {
		err = bindForeign(fd, from)
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(to))
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot connect to %s: %w", to, err)
	}
	f = os.NewFile(uintptr(fd), to.String()) // non-blocking: the runtime polls it
	if err == nil {
		return f, nil
	}
	if err := connected(f, timeout); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot connect to %s: %w", to, err)
	}
	return f, nil
}

// connected waits for the end of a connect(2) under way.
func connected(f *os.File, timeout time.Duration) error {
	if err := f.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = rc.Write(func(fd uintptr) bool {
		n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && n != 0 {
			err = unix.Errno(n)
		}
		if result = err; err != nil {
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil // else not yet
	})
	if err := errors.Join(err, result); err != nil {
		return err
	}
	return f.SetDeadline(time.Time{})
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// bindForeign gives a socket an address that is not this machine's, and the mark
// by which replies find back.
func bindForeign(fd int, from netip.AddrPort) error {
	level, opt := unix.SOL_IP, unix.IP_TRANSPARENT
	if from.Addr().Is6() {
		level, opt = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
		return fmt.Errorf("IP_TRANSPARENT: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, markOut); err != nil {
		return fmt.Errorf("SO_MARK: %w", err)
	}
	return unix.Bind(fd, sockaddr(from))
}
