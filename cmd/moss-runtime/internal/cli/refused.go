package cli

import (
	"errors"

	"github.com/urfave/cli/v2"
)

// The commands of other runtimes that this one knows and does not do. A caller
// gets the reason, not "no such command".

func checkpointCommand() *cli.Command {
	return refused("checkpoint", "CRIU needs CAP_CHECKPOINT_RESTORE on the machine itself, "+
		"which a user does not have: stop the container and start it again")
}

func restoreCommand() *cli.Command {
	return refused("restore", "CRIU needs CAP_CHECKPOINT_RESTORE on the machine itself, which a user does not have, so there are no checkpoints")
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
