package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/process"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "create and start a container, wait for it and delete it",
		ArgsUsage: "CONTAINER",
		Flags: append(creationFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when it runs"},
			&cli.BoolFlag{Name: "keep", Usage: "do not delete the container after it has ended"},
		),
		Action: func(c *cli.Context) error {
			cr, err := newCreation(c)
			if err != nil {
				return err
			}
			code, err := cr.run(c.Context, c.Bool("detach"), c.Bool("keep"))
			if err != nil {
				return fmt.Errorf("cannot run container %q: %w", cr.id, err)
			}
			if code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

func (cr *creation) run(ctx context.Context, detach, keep bool) (code int, err error) {
	var fg *foreground
	var signals *process.Forwarder
	if !detach {
		fg, signals = &foreground{}, process.NewForwarder()
	}
	lp, err := cr.create(fg)
	if err != nil {
		return -1, err
	}
	r, err := record.Load(cr.root, cr.id)
	if err != nil {
		return -1, err
	}
	if fg != nil && fg.terminal != nil {
		if err = fg.terminal.Serve(); err == nil {
			defer func() { err = errors.Join(err, fg.terminal.Close()) }()
		}
	}
	if err == nil {
		err = start(ctx, r)
	}
	if err != nil {
		_ = lp.Signal(unix.SIGKILL)
		_, _ = lp.Wait()
		return -1, errors.Join(err, destroy(cr.root, r))
	}
	if detach {
		return 0, nil
	}
	var terminal *process.Terminal
	if fg.terminal != nil {
		terminal = fg.terminal
	}
	code, err = signals.Wait(lp, terminal)
	if keep {
		return code, err
	}
	return code, errors.Join(err, destroy(cr.root, r))
}
