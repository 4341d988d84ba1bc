package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// onThread runs fn on a thread of its own that dies afterwards, so fn may leave
// it in any namespace.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	var run func()
	run = func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		if unix.Gettid() == unix.Getpid() {
			// But not the first one, which would stay as the process's face in /proc. Held, it cannot be
			// given to the next.
			next := make(chan struct{})
			go func() { defer close(next); run() }()
			<-next
			runtime.UnlockOSThread()
			return
		}
		done <- fn()
	}
	go run()
	return <-done
}

// inNetNS runs fn on a thread in the network namespace bound at path.
func inNetNS(path string, fn func() error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot open the network namespace: %w", err)
	}
	defer f.Close()
	return onThread(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter the network namespace %s: %w", path, err)
		}
		return fn()
	})
}

// loopback is lo's index in every network namespace.
const loopback = 1

// space is a network namespace that was just made.
type space struct {
	path   string
	file   *os.File
	handle *netlink.Handle
}

func (s *space) Close() {
	s.handle.Close()
	_ = s.file.Close() // the bind mount holds the namespace
}

// makeNetNS makes a network namespace with its loopback up and binds it at
// path, which must not exist.
func makeNetNS(path string) (*space, error) {
	target, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make the file of the network namespace: %w", err)
	}
	if err := target.Close(); err != nil {
		return nil, err
	}
	s := space{path: path}
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make a network namespace: %w", err)
		}
		const own = "/proc/thread-self/ns/net"
		if err := unix.Mount(own, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cannot bind the network namespace at %s: %w", path, err)
		}
		var err error
		if s.file, err = os.Open(own); err != nil {
			return err
		}
		if s.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return fmt.Errorf("cannot open netlink: %w", err)
		}
		if err := s.handle.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: loopback}}); err != nil {
			return fmt.Errorf("cannot bring the loopback device up: %w", err)
		}
		// Containers have no IPv6 network; without this, eth0 would have a
		// link-local address nobody can use.
		return setSysctl("net/ipv6/conf/default/disable_ipv6", "1")
	})
	if err != nil {
		if s.handle != nil {
			s.handle.Close()
		}
		if s.file != nil {
			_ = s.file.Close() // already failing
		}
		return nil, errors.Join(err, removeNetNS(path))
	}
	return &s, nil
}

// removeNetNS takes a bound namespace away; nil when there is none.
func removeNetNS(path string) error {
	// Detached: whoever is still inside keeps it alive.
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil &&
		!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot unmount the network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove the network namespace: %w", err)
	}
	return nil
}

// setSysctl sets a parameter of the calling thread's network namespace. One
// that the kernel does not have is none to be set: IPv6 may be left out.
func setSysctl(name, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot set %s: %w", name, err)
	}
	return nil
}
