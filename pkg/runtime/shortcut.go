package runtime

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/execfifo"
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
	if err := execfifo.Await(ctx, pid, pidfd, fifo); err != nil && (ended(pidfd) || execfifo.Held(pid, fifo)) {
		return errNotHere // it says why
	}
	// Or somebody who was killed then had let it go.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
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
