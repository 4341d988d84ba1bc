package cli

import (
	"errors"

	"github.com/urfave/cli/v2"
)

// The commands of other runtimes that this one knows and does not do. A caller
// gets the reason, not "no such command".

func eventsCommand() *cli.Command {
	return refused("events", "the container's figures are in its cgroup: "+
		"read them there, or see `systemctl --user status` of its unit")
}

func checkpointCommand() *cli.Command {
	return refused("checkpoint", "moss-runtime is built without CRIU: "+
		"stop the container and start it again, or use another runtime for it (--runtime)")
}

func restoreCommand() *cli.Command {
	return refused("restore", "moss-runtime is built without CRIU and makes no checkpoints")
}

func refused(name, why string) *cli.Command {
	return &cli.Command{
		Name:            name,
		Usage:           "not supported",
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(*cli.Context) error {
			return errors.New(name + " is not supported: " + why)
		},
	}
}
