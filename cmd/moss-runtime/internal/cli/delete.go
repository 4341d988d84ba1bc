package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

// killTimeout bounds the wait for a killed process to be gone. Only one stuck
// in the kernel takes longer.
const killTimeout = 10 * time.Second

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name:      "delete",
		Usage:     "remove what is left of a container that has ended",
		ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill it first if it runs; no error if there is none"},
		},
		Action: func(c *cli.Context) error {
			id, err := argID(c)
			if err != nil {
				return err
			}
			dir, err := root(c)
			if err != nil {
				return err
			}
			if err := remove(dir, id, c.Bool("force")); err != nil {
				return fmt.Errorf("cannot delete container %q: %w", id, err)
			}
			return nil
		},
	}
}

func remove(root, id string, force bool) error {
	r, err := record.Load(root, id)
	if errors.Is(err, record.ErrNotExist) {
		return removeUnfinished(root, id, force)
	}
	if err != nil {
		return err
	}
	status, err := r.Status()
	if err != nil {
		return err
	}
	if status != record.Stopped {
		if status != record.Created && !force {
			return fmt.Errorf("it is %s: stop it first, or use --force", status)
		}
		if err := killAndWait(r); err != nil {
			return err
		}
	}
	return destroy(root, r)
}

// removeUnfinished clears up after a create that was killed half-way.
func removeUnfinished(root, id string, force bool) error {
	dir, err := record.Dir(root, id)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if force {
			return nil
		}
		return record.ErrNotExist
	}
	container, err := libcontainer.Load(root, id)
	if err != nil {
		// No state was written, so no process got past its first steps, and
		// those die with the pipe to their parent.
		return os.RemoveAll(dir)
	}
	if err := container.Signal(unix.SIGKILL); err != nil && !errors.Is(err, libcontainer.ErrNotRunning) {
		return err
	}
	state, err := container.State()
	if err != nil {
		return err
	}
	if pidfd, err := unix.PidfdOpen(state.InitProcessPid, 0); err == nil {
		defer unix.Close(pidfd)
		if status, err := container.Status(); err == nil && status != libcontainer.Stopped {
			if err := awaitExit(pidfd); err != nil {
				return err
			}
		}
	}
	return container.Destroy()
}

func killAndWait(r *record.Record) error {
	pidfd, err := r.Pidfd()
	if errors.Is(err, record.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if err := kill(r, unix.SIGKILL); err != nil && !errors.Is(err, record.ErrNotRunning) {
		return err
	}
	if err := awaitExit(int(pidfd.Fd())); err != nil {
		return err
	}
	// A frozen cgroup would hold whatever its unit starts in it next.
	if frozen, err := cgroup.Frozen(r.Cgroup); r.OwnCgroup && err == nil && frozen {
		return cgroup.Freeze(r.Cgroup, false)
	}
	return nil
}

func awaitExit(pidfd int) error {
	deadline := time.Now().Add(killTimeout)
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(time.Until(deadline).Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("poll", err)
		case time.Now().After(deadline):
			return fmt.Errorf("its process is still there %s after SIGKILL", killTimeout)
		}
	}
}

// destroy removes the traces of a container whose process is gone.
func destroy(root string, r *record.Record) error {
	if !r.PrivatePID && r.OwnCgroup {
		// Others may have outlived the first process.
		if err := cgroup.Kill(r.Cgroup); err != nil {
			return err
		}
	}
	if r.FullDelete {
		container, err := libcontainer.Load(root, r.ID)
		if err != nil {
			return err
		}
		return container.Destroy()
	}
	return os.RemoveAll(r.Path())
}
