// Package cli is the OCI runtime command line, as runc and crun have it: one
// file a command.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/userns"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// exitError ends the process with a code of its own.
type exitError struct {
	code int
	err  error // nil: the code is a container process's, nothing failed
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "exit " + strconv.Itoa(e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Main runs one command and returns the exit code: 0, or 1 for an error, or
// what run and exec say (their process's code; exec 255 for an error).
func Main(version string, args []string) int {
	err := newApp(version).Run(args)
	if err == nil {
		return 0
	}
	code := 1
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		if exit.err == nil {
			return exit.code
		}
		code = exit.code
	}
	// To the log alone where there is one: stderr may be the container's own.
	if logrus.StandardLogger().Out != os.Stderr {
		logrus.Error(err)
	} else {
		fmt.Fprintln(os.Stderr, "moss-runtime:", err)
	}
	return code
}

func newApp(version string) *cli.App {
	app := &cli.App{
		Name:    "moss-runtime",
		Usage:   "OCI runtime of the moss container engine",
		Version: version + "\nspec: " + specs.Version,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "root", Usage: "directory of the containers' state", Value: defaultRoot()},
			&cli.StringFlag{Name: "log", Usage: "file for errors and warnings (default: stderr)"},
			&cli.StringFlag{Name: "log-format", Usage: "text or json", Value: "text"},
			&cli.BoolFlag{Name: "debug", Usage: "log more"},
			&cli.BoolFlag{Name: "systemd-cgroup", Usage: "refused: a container lives in its unit's cgroup"},
			&cli.StringFlag{Name: "rootless", Usage: "true or auto: the runtime is always rootless", Value: "auto"},
		},
		Before: before,
		Commands: []*cli.Command{
			createCommand(), startCommand(), runCommand(), stateCommand(), listCommand(), killCommand(), deleteCommand(),
			execCommand(), psCommand(), pauseCommand(), resumeCommand(), updateCommand(), eventsCommand(),
			featuresCommand(), checkpointCommand(), restoreCommand(), launchCommand(), attendCommand(),
		},
		// Values may hold commas (--env A=1,2).
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           true,
		ExitErrHandler:            func(*cli.Context, error) {}, // Main does it
		OnUsageError:              onUsageError,
	}
	for _, c := range app.Commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = true
	}
	return app
}

// onUsageError keeps cli from printing its help over a container's output.
func onUsageError(_ *cli.Context, err error, _ bool) error { return err }

func defaultRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "moss", "runtime")
	}
	return "/run/moss/runtime"
}

func before(c *cli.Context) error {
	if c.Bool("debug") {
		logrus.SetLevel(logrus.DebugLevel)
	}
	switch format := c.String("log-format"); format {
	case "text":
	case "json":
		logrus.SetFormatter(&logrus.JSONFormatter{})
	default:
		return fmt.Errorf("unknown --log-format %q: text or json", format)
	}
	if file := c.String("log"); file != "" {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("cannot open the log: %w", err)
		}
		logrus.SetOutput(io.Writer(f))
	}
	if c.Bool("systemd-cgroup") {
		return errors.New("--systemd-cgroup is not supported: moss starts every container inside a systemd unit " +
			"and the container stays in that unit's cgroup; leave the flag out")
	}
	if v := c.String("rootless"); v != "auto" {
		rootless, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("unknown --rootless %q: true or auto", v)
		}
		if !rootless {
			return errors.New("--rootless=false is not supported: moss-runtime works inside a user namespace only")
		}
	}
	return nil
}

// needHome refuses to work where moss-runtime's assumptions do not hold.
func needHome() error {
	if os.Geteuid() != 0 || !userns.RunningInUserNS() {
		return errors.New("moss-runtime works as root of a user namespace only: " +
			"start containers with moss, or enter one with `unshare --user --map-root-user --mount` first")
	}
	if !cgroup.Unified() {
		return fmt.Errorf("moss-runtime needs cgroup v2 alone on %s: "+
			"boot with systemd.unified_cgroup_hierarchy=1", cgroup.Root)
	}
	return nil
}

// argID returns the container id of a command that takes nothing else.
func argID(c *cli.Context) (string, error) {
	if c.NArg() != 1 {
		return "", fmt.Errorf("%s takes one argument, the container id; got %d", c.Command.Name, c.NArg())
	}
	return c.Args().First(), nil
}

// root returns the state directory, absolute: create changes its directory.
func root(c *cli.Context) (string, error) { return filepath.Abs(c.String("root")) }

// absFlag returns the value of a path flag made absolute, "" if it is not set.
func absFlag(c *cli.Context, name string) (string, error) {
	v := c.String(name)
	if v == "" {
		return "", nil
	}
	return filepath.Abs(v)
}
