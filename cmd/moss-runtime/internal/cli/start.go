package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
	"github.com/moss-containers/moss/pkg/execfifo"
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
			if err := start(c.Context, r); err != nil {
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
func start(ctx context.Context, r *record.Record) error {
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
	err = execfifo.Await(ctx, r.Pid, int(pidfd.Fd()), fd)
	if err != nil && !errors.Is(err, execfifo.ErrGone) {
		return err
	}
	if rmErr := os.Remove(r.Fifo()); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
		return errors.Join(err, rmErr)
	}
	return err
}
