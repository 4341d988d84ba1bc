package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

// launchCommand is for other runtimes, which do not enter the engine's
// namespaces themselves: this process is there by now (package userns), and
// becomes the other one.
func launchCommand() *cli.Command {
	return &cli.Command{
		Name:            "launch",
		Usage:           "run another runtime's create where moss's containers live, in the unit's cgroup",
		ArgsUsage:       "RUNTIME ARG…",
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			i := slices.Index(args, "--bundle")
			if i < 1 || i+1 >= len(args) {
				return errors.New("launch wants the command line of an OCI runtime's create, with --bundle")
			}
			if err := logBeside(args); err != nil {
				return err
			}
			if err := needHome(); err != nil {
				return err
			}
			if err := placeInUnit(filepath.Join(args[i+1], "config.json")); err != nil {
				return err
			}
			if err := unix.Exec(args[0], args, os.Environ()); err != nil {
				return fmt.Errorf("cannot run the OCI runtime %s: %w", args[0], err)
			}
			return nil
		},
	}
}

// logBeside says errors of this process where the other runtime is to say its own.
func logBeside(args []string) error {
	i := slices.Index(args, "--log")
	if i < 0 || i+1 >= len(args) {
		return nil
	}
	f, err := os.OpenFile(args[i+1], os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("cannot open the log: %w", err)
	}
	logrus.SetFormatter(&logrus.JSONFormatter{})
	logrus.SetOutput(f)
	return nil
}

// ownGroup is the cgroup of a container below its unit's: other runtimes take
// the one they are given for their own, and want it empty.
const ownGroup = "container"

// placeInUnit names a cgroup below that of this process, which is the unit's, in
// a bundle that has none: the manager has it that a unit's process is in it.
func placeInUnit(config string) error {
	own, err := cgroup.Own()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	var spec, linux map[string]json.RawMessage
	if err := json.Unmarshal(text, &spec); err != nil {
		return fmt.Errorf("cannot read %s: %w", config, err)
	}
	if err := json.Unmarshal(spec["linux"], &linux); err != nil {
		return fmt.Errorf("cannot read %s: %w", config, err)
	}
	if linux["cgroupsPath"], err = json.Marshal(filepath.Join(own, ownGroup)); err != nil {
		return err
	}
	if spec["linux"], err = json.Marshal(linux); err != nil {
		return err
	}
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return record.WriteFile(config, text)
}
