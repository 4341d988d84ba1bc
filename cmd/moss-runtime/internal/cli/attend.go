package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/process"
)

// attendCommand stands between the daemon and another runtime's exec, and ends what a
// failed one has begun. Left to the daemon, which does not know it, it would stay, and
// in the container's pid namespace it would keep the container (see process.Clear).
// When all went well, the exec's process is the daemon's child as soon as this one ends.
func attendCommand() *cli.Command {
	return &cli.Command{
		Name:            "attend",
		Usage:           "run another runtime's exec and take along what it leaves",
		ArgsUsage:       "RUNTIME ARG…",
		Hidden:          true,
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			i := slices.Index(args, "--pid-file")
			if i < 1 || i+1 >= len(args) {
				return errors.New("attend wants the command line of an OCI runtime's exec, with --pid-file")
			}
			if err := logBeside(args); err != nil {
				return err
			}
			if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
				return fmt.Errorf("cannot become a child subreaper: %w", err)
			}
			cmd := exec.CommandContext(c.Context, args[0], args[1:]...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			if err := cmd.Run(); err != nil {
				process.Clear()
				return attended(args[0], err)
			}
			text, err := os.ReadFile(args[i+1])
			if err != nil {
				process.Clear()
				return fmt.Errorf("the runtime wrote no pid: %w", err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				process.Clear()
				return fmt.Errorf("the runtime wrote no pid: %w", err)
			}
			process.Reap(pid)
			return nil
		},
	}
}

// attended passes the runtime's exit code on: why it failed, it has said itself.
func attended(runtime string, err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return &exitError{code: exit.ExitCode()}
	}
	return fmt.Errorf("cannot run the OCI runtime %s: %w", runtime, err)
}
