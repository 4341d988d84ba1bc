package cli

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

var errSharedCgroup = errors.New("it shares its cgroup with processes which are not its own: " +
	"start it in a unit or scope of its own, or give the bundle a cgroupsPath")

func pauseCommand() *cli.Command {
	return freezeCommand("pause", "stop every process of a container where it is", true)
}

func resumeCommand() *cli.Command {
	return freezeCommand("resume", "let a paused container go on", false)
}

func freezeCommand(name, usage string, freeze bool) *cli.Command {
	return &cli.Command{
		Name:      name,
		Usage:     usage,
		ArgsUsage: "CONTAINER",
		Action: func(c *cli.Context) error {
			r, err := loadRecord(c)
			if err != nil {
				return err
			}
			if err := setFrozen(r, freeze); err != nil {
				return fmt.Errorf("cannot %s container %q: %w", name, r.ID, err)
			}
			return nil
		},
	}
}

func setFrozen(r *record.Record, freeze bool) error {
	if !r.OwnCgroup {
		return errSharedCgroup
	}
	status, err := r.Status()
	switch {
	case err != nil:
		return err
	case status == record.Stopped:
		return record.ErrNotRunning
	case !freeze && status != record.Paused:
		return errors.New("it is not paused")
	}
	return cgroup.Freeze(r.Cgroup, freeze)
}
