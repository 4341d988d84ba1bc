package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/version"
)

// streams are the three standard ones; out and in may be terminals.
type streams struct {
	in       *os.File
	out, err io.Writer
}

// app is one invocation.
type app struct {
	streams
	getenv func(string) string
	host   string
	tls    tlsFlags
	client *client.Client
}

// status ends the program with a code and, where text is not empty, a message.
type status struct {
	code int
	text string
}

func (s *status) Error() string { return s.text }

// run runs the command line and returns the exit code. It is main, for tests.
// exitInterrupted is the exit code of what was told to end before it was done.
const exitInterrupted = 128 + int(syscall.SIGINT)

func run(ctx context.Context, args []string, s streams, getenv func(string) string) int {
	a := &app{streams: s, getenv: getenv}
	defer a.close()
	if n := len(args) - 1; n > 0 && args[n] == completeFlag {
		a.complete(ctx, a.root(), args[1:n])
		return 0
	}
	// -h is docker's short form of --hostname; a help flag may not take it.
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Usage: "show help"}
	root := a.root(args...)
	err := root.RunContext(ctx, normalize(root, args))
	var st *status
	switch {
	case err == nil:
		return 0
	case errors.As(err, &st):
		if st.text != "" {
			fmt.Fprintln(s.err, "moss: "+st.text)
		}
		return st.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	default:
		fmt.Fprintln(s.err, "moss: "+message(err))
		return 1
	}
}

// root is moss with all its commands, or with that alone which args say.
func (a *app) root(args ...string) *cli.App {
	return &cli.App{
		Name:                      "moss",
		Usage:                     "containers for one user, under systemd --user",
		Version:                   version.Version,
		Writer:                    a.out,
		ErrWriter:                 a.err,
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usage,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "host", Aliases: []string{"H"}, Usage: "socket of the engine, unix://PATH or tcp://ADDRESS (default: $MOSS_HOST, $DOCKER_HOST, the user's own)", Destination: &a.host},
		}, tlsOptions()...),
		Before:   func(c *cli.Context) error { a.tls = readTLS(c); return nil },
		Commands: a.commands(args),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &status{1, fmt.Sprintf("unknown command %q; 'moss --help' lists them", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
	}
}

func (a *app) commands(args []string) []*cli.Command {
	if len(args) > 1 {
		if c := a.alone(args[1]); c != nil {
			return []*cli.Command{c}
		}
	}
	return slices.Concat(a.containerCommands(), a.imageCommands(), a.networkCommands(), a.volumeCommands(), a.secretCommands(), a.systemCommands(), []*cli.Command{a.completionCommand(), a.unshareCommand()})
}

func usage(c *cli.Context, err error, _ bool) error {
	name := "moss"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "moss" {
		name += " " + c.Command.Name
	}
	return &status{125, fmt.Sprintf("%v\nsee '%s --help'", err, name)}
}

// command makes a subcommand whose arguments number from least to most (most
// below 0: any number).
func command(name, args, use string, least, most int, flags []cli.Flag, do func(*cli.Context) error) *cli.Command {
	return &cli.Command{
		Name: name, Usage: use, ArgsUsage: args, Flags: quick(flags), HideHelpCommand: true, OnUsageError: usage,
		Action: func(c *cli.Context) error {
			if n := c.NArg(); n < least || (most >= 0 && n > most) {
				return &status{1, fmt.Sprintf("'moss %s' takes %s; see 'moss %[1]s --help'", name, count(least, most))}
			}
			return do(c)
		},
	}
}

func count(least, most int) string {
	switch {
	case least == most && most == 0:
		return "no arguments"
	case least == most:
		return fmt.Sprintf("%d argument(s)", least)
	case most < 0:
		return fmt.Sprintf("at least %d argument(s)", least)
	default:
		return fmt.Sprintf("%d to %d arguments", least, most)
	}
}

// errSaid is what a user was told of already and what is no failure.
var errSaid = errors.New("said")

// each runs do for every argument, prints the argument where it succeeded, and
// goes on after a failure, as docker does.
func (a *app) each(c *cli.Context, do func(ref string) error) error {
	if len(a.eachFailing(c, do)) > 0 {
		return &status{code: 1}
	}
	return nil
}

// eachFailing is each, and returns the arguments that it failed for.
func (a *app) eachFailing(c *cli.Context, do func(ref string) error) (failed []string) {
	for _, ref := range c.Args().Slice() {
		err := do(ref)
		if errors.Is(err, errSaid) {
			continue
		}
		if err != nil {
			fmt.Fprintln(a.err, message(err))
			failed = append(failed, ref)
			continue
		}
		fmt.Fprintln(a.out, ref)
	}
	return failed
}
