package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// What moss-runtime's start and delete come to in the common case is a byte
// read from a fifo and a directory removed. A process of its own for either
// costs more than the whole of a container's network, so both are done here;
// everything out of the ordinary is left to the command.

// execFifo is where a created container's process waits, in its state directory.
const execFifo = "exec.fifo"

// errNotHere says that the command has to do it.
var errNotHere = errors.New("left to the runtime's command")

// letGo is start: it takes the byte that the container's init waits to write.
func (r *Runtime) letGo(ctx context.Context, id moss.ContainerID) error {
	pid, err := r.pid(id)
	if err != nil {
		return errNotHere
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return errNotHere
	}
	defer unix.Close(pidfd)
	path := filepath.Join(r.cfg.Root, string(id), execFifo)
	// Not blocking: init may die before it gets to its end.
	fifo, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return errNotHere
	}
	defer unix.Close(fifo)
	if !awaitByte(ctx, pid, fifo, pidfd) && (ended(pidfd) || waits(pid, fifo)) {
		return errNotHere // it says why
	}
	// Or somebody who was killed then had let it go.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// byteGrace is how long init gets to write its byte, for which it only has to be
// woken, before it is asked whether it still is at the fifo.
const byteGrace = 200 * time.Millisecond

// awaitByte waits until the fifo has its byte; false when the process has ended
// or has gone on without, or ctx has ended.
func awaitByte(ctx context.Context, pid, fifo, pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(fifo), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(byteGrace.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || fds[1].Revents != 0 && fds[0].Revents == 0:
			return false
		case n == 0:
			// Asked after the grace and followed by a look: what it wrote is there by then.
			if ctx.Err() != nil {
				return false
			}
			if waits(pid, fifo) {
				continue
			}
			if n, err := unix.Poll(fds[:1], 0); err != nil || n == 0 {
				return false
			}
		}
		got, err := unix.Read(fifo, make([]byte, 1))
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		return got == 1
	}
}

// waits says whether a container's init still has the fifo: it gives it up when it
// has written its byte, also one that a killed reader never took.
func waits(pid, fifo int) bool {
	var want unix.Stat_t
	if err := unix.Fstat(fifo, &want); err != nil {
		return true
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return true // nobody can tell
	}
	for _, d := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, d.Name()), &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
			return true
		}
	}
	return false
}

func ended(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// forget is delete for a container whose only processes were its own and have
// ended: they were in a pid namespace that is gone with its first.
func (r *Runtime) forget(c *moss.Container) error {
	pid, err := r.pid(c.ID)
	if err != nil || c.Host.PidMode != "" {
		return errNotHere
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		return errNotHere
	}
	return os.RemoveAll(filepath.Join(r.cfg.Root, string(c.ID)))
}

// pid reads the pid file, which create writes last of all.
func (r *Runtime) pid(id moss.ContainerID) (int, error) {
	text, err := os.ReadFile(r.file(id, pidFile))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
