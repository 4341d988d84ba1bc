package holder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/parent"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/rootless"
)

// children lists this process's children, and with them, as it is a subreaper,
// its descendants that lost their parent.
func children() ([]int, error) {
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for s := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(s)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killChildren ends what is left of this process's children.
func killChildren(log *slog.Logger) {
	pids, err := children()
	for _, pid := range pids {
		err = errors.Join(err, unix.Kill(pid, unix.SIGKILL))
	}
	if err != nil {
		log.Warn("cannot end the network driver", "error", err)
	}
}

// driverEnds waits for the end of the network driver's process, which no one
// else does: without it the namespaces would go on without a network. It returns
// nil when ctx or the namespaces end first, and at once where the driver has no
// process.
func driverEnds(ctx context.Context, info rootless.Info) error {
	child, err := openPid(info.ChildPID)
	if err != nil {
		return nil // it has ended, and its parent tells so
	}
	defer child.Close()
	pids, err := children()
	if err != nil {
		return fmt.Errorf("cannot find the network driver's process: %w", err)
	}
	for _, pid := range pids {
		if pid == info.ChildPID {
			continue
		}
		if err := awaitEnd(ctx, pid); err != nil {
			return fmt.Errorf("cannot watch the network driver: %w", err)
		}
		if ctx.Err() != nil || hasEnded(int32(child.Fd())) {
			return nil
		}
		return fmt.Errorf("the network driver %s (process %d) ended, and nothing gets out of the namespaces without it",
			info.NetworkDriver, pid)
	}
	return nil
}

func openPid(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

func hasEnded(pidfd int32) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: pidfd, Events: unix.POLLIN}}, 0)
	return err == nil && n == 1
}

// awaitEnd waits for the end of a child, without reaping it, or of ctx.
func awaitEnd(ctx context.Context, pid int) error {
	f, err := openPid(pid)
	if err != nil {
		return err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = rc.Read(func(fd uintptr) bool { return hasEnded(int32(fd)) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stuckAfter is how long rootlesskit may leave an ended child alone before it is
// taken to wait for it in vain.
const stuckAfter = time.Second

// supervise runs rootlesskit's parent. That waits for messages from its child,
// and for a pipe the child opens, even when the child has ended; then it is left
// behind, and what it would clean up is cleaned up here.
func supervise(stateDir string, opt parent.Opt) error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	done := make(chan error, 1)
	go func() { done <- parent.Parent(opt) }()
	var stuck <-chan time.Time
	for {
		select {
		case err := <-done:
			return err
		case <-ended:
			if stuck == nil && zombie() != 0 {
				stuck = time.After(stuckAfter)
			}
		case <-stuck:
			if pid := zombie(); pid != 0 {
				return errors.Join(fmt.Errorf("process %d of it ended too early", pid), os.RemoveAll(stateDir))
			}
			stuck = nil
		}
	}
}

// zombie is a child that has ended and was not waited for, or 0.
func zombie() int {
	pids, err := children()
	if err != nil {
		return 0
	}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// pid (name) state …; the name may hold anything
		if i := bytes.LastIndexByte(stat, ')'); i > 0 && bytes.HasPrefix(stat[i:], []byte(") Z")) {
			return pid
		}
	}
	return 0
}
