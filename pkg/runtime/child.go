package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a process that another program started for us and left to us as its
// subreaper. Only its own pidfd is waited for, so that os/exec elsewhere keeps
// its children.
type child struct {
	pid   int
	pidfd *os.File
	after func() // called at the end
	done  chan struct{}
	turn  sync.Mutex // held over the reaping: before it the pid is the child's
	ended bool       // guarded by turn
	code  int        // valid after done
	err   error      // valid after done
}

// newChild takes over a child of this process. It stays a zombie until it is
// waited for, so pid cannot be anybody else.
func newChild(pid int, after func()) (*child, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot follow process %d: %w", pid, err)
	}
	// Non-blocking: the file goes to the Go poller, and no thread waits.
	c := &child{pid: pid, pidfd: os.NewFile(uintptr(fd), "pidfd"), after: after, done: make(chan struct{})}
	go c.reap()
	return c, nil
}

func (c *child) reap() {
	defer func() {
		close(c.done)
		_ = c.pidfd.Close() // nothing can be lost with it
	}()
	defer c.after()
	conn, err := c.pidfd.SyscallConn()
	if err == nil {
		var waitErr error
		err = conn.Read(func(fd uintptr) bool {
			var done bool
			c.turn.Lock()
			defer c.turn.Unlock()
			c.code, done, waitErr = waitPidfd(int(fd))
			c.ended = done || waitErr != nil
			return done || waitErr != nil
		})
		err = errors.Join(err, waitErr)
	}
	if err != nil {
		c.err = fmt.Errorf("cannot wait for process %d: %w", c.pid, err)
	}
}

// waitPidfd reaps the child behind fd if it has ended.
func waitPidfd(fd int) (code int, done bool, err error) {
	var info unix.Siginfo
	for {
		err = unix.Waitid(unix.P_PIDFD, fd, &info, unix.WEXITED|unix.WNOHANG, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EAGAIN): // a non-blocking pidfd says so
		return 0, false, nil
	case errors.Is(err, unix.ECHILD):
		return 0, false, errors.New("it is not a child of this process, which must be a child subreaper (prctl(2))")
	case err != nil:
		return 0, false, os.NewSyscallError("waitid", err)
	case info.Signo == 0:
		return 0, false, nil
	}
	return exitCode(&info), true, nil
}

// PID is the process's id in the engine's pid namespace.
func (c *child) PID() int { return c.pid }

// Wait returns the exit code, 128+n for signal n, once the process has ended.
func (c *child) Wait(ctx context.Context) (int, error) {
	select {
	case <-c.done:
		return c.code, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// KillGroup kills the process and those in its group, which is its own: runtimes
// make each exec the leader of a session.
func (c *child) KillGroup() error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.ended {
		return nil
	}
	if err := killGroup(c.pid); err != nil {
		return fmt.Errorf("cannot kill process %d: %w", c.pid, err)
	}
	return nil
}

// killGroup kills a process, and its group where it leads one.
func killGroup(pid int) error {
	group := unix.Kill(-pid, unix.SIGKILL)
	err := unix.Kill(pid, unix.SIGKILL)
	if errors.Is(err, unix.ESRCH) || err == nil && errors.Is(group, unix.ESRCH) {
		return nil
	}
	return errors.Join(err, group)
}

// Signal sends a signal; nil when the process has ended.
func (c *child) Signal(sig syscall.Signal) error {
	conn, err := c.pidfd.SyscallConn()
	if err != nil {
		return err // cannot be: the file is not nil
	}
	var sent error
	err = conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), unix.Signal(sig), nil, 0) })
	select {
	case <-c.done: // meanwhile
		return nil
	default:
	}
	switch {
	case err != nil:
		return err
	case errors.Is(sent, unix.ESRCH):
		return nil
	case sent != nil:
		return fmt.Errorf("cannot signal process %d: %w", c.pid, sent)
	}
	return nil
}
