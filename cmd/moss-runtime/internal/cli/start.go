package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

func startCommand() *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "let the process of a created container go",
		ArgsUsage: "CONTAINER",
		Action: func(c *cli.Context) error {
			r, err := loadRecord(c)
			if err != nil {
				return err
			}
			if err := start(r); err != nil {
				return fmt.Errorf("cannot start container %q: %w", r.ID, err)
			}
			return nil
		},
	}
}

func loadRecord(c *cli.Context) (*record.Record, error) {
	id, err := argID(c)
	if err != nil {
		return nil, err
	}
	return loadID(c, id)
}

func loadID(c *cli.Context, id string) (*record.Record, error) {
	dir, err := root(c)
	if err != nil {
		return nil, err
	}
	r, err := record.Load(dir, id)
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	return r, nil
}

// start opens the reading end of the fifo the container's init is waiting to
// write to, and takes the one byte. Of two starts at a time one gets the byte.
func start(r *record.Record) error {
	status, err := r.Status()
	if err != nil {
		return err
	}
	switch status {
	case record.Created:
	case record.Stopped:
		return errors.New("it has stopped")
	default:
		return fmt.Errorf("it is already %s", status)
	}
	pidfd, err := r.Pidfd()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	// Not blocking: init may die before it gets to its end of the fifo.
	fd, err := unix.Open(r.Fifo(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it is already running")
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: r.Fifo(), Err: err}
	}
	defer unix.Close(fd)
	err = awaitByte(r.Pid, fd, int(pidfd.Fd()))
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	if rmErr := os.Remove(r.Fifo()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
		return errors.Join(err, rmErr)
	}
	return err
}

// errGone: whoever let it go was killed before it could take the fifo away.
var errGone = errors.New("it is already running")

// byteGrace is how long init gets to write its byte, for which it only has to be
// woken, in milliseconds, before it is asked whether it still is at the fifo.
const byteGrace = 200

func awaitByte(pid, fifo, pidfd int) error {
	fds := []unix.PollFd{{Fd: int32(fifo), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, byteGrace)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n > 0 && fds[0].Revents == 0:
			return errors.New("its process has ended before the start")
		case n == 0:
			if waits(pid, fifo) {
				continue
			}
			if n, err := unix.Poll(fds[:1], 0); err != nil || n == 0 { // what it wrote is there by now
				return errGone
			}
		}
		n, err = unix.Read(fifo, make([]byte, 1))
		switch {
		case n == 1:
			return nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("read", err)
		default: // the writer has come and gone: its byte was another's
			return errors.New("it is already running")
		}
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
