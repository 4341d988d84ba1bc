package main

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/moss-containers/moss/cmd/moss/internal/atonce"
)

func (a *app) exec(c *cli.Context) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	env, err := pairs(c, "env", "env-file", true)
	if err != nil {
		return err
	}
	keys, err := a.detachKeys(c)
	if err != nil {
		return err
	}
	detach := c.Bool("detach")
	s := session{detachKeys: keys, tty: c.Bool("tty"), stdin: c.Bool("interactive") && !detach, stdout: !detach, stderr: !detach}
	if s.tty && s.stdin && !term.IsTerminal(int(a.in.Fd())) {
		return errNoTerminal
	}
	begun := atonce.Left()
	switch {
	case begun.Err != nil:
		return execError(begun.Err)
	case begun.Ended:
		return execEnd(c.Context, api, begun.ID)
	case begun.ID == "":
		made, err := api.ExecCreate(c.Context, c.Args().First(), client.ExecCreateOptions{
			User: c.String("user"), Privileged: c.Bool("privileged"), TTY: s.tty, ConsoleSize: a.size(s),
			AttachStdin: s.stdin, AttachStdout: s.stdout, AttachStderr: s.stderr,
			DetachKeys: keys, Env: env, WorkingDir: c.String("workdir"), Cmd: c.Args().Tail(),
		})
		if err != nil {
			return err
		}
		begun.ID = made.ID
	}
	if detach {
		_, err := api.ExecStart(c.Context, begun.ID, client.ExecStartOptions{Detach: true, TTY: s.tty})
		return err // 1, as docker's client has it: nobody waits for the command
	}
	conn, err := api.ExecAttach(c.Context, begun.ID, client.ExecAttachOptions{TTY: s.tty, ConsoleSize: a.size(s)})
	if err != nil {
		return execError(err)
	}
	defer conn.Close()
	return a.followExec(c.Context, api, begun.ID, conn.HijackedResponse, s)
}

func (a *app) followExec(ctx context.Context, api *client.Client, id string, conn client.HijackedResponse, s session) error {
	restore, err := a.rawTerminal(s)
	if err != nil {
		return err
	}
	defer restore()
	streams, err := a.copyStreams(conn, s)
	if err != nil {
		return err
	}
	if s.tty {
		stop := a.followSize(func(o client.ContainerResizeOptions) {
			_, _ = api.ExecResize(ctx, id, client.ExecResizeOptions(o)) // the next change tries again
		})
		defer stop()
	}
	if err := streams.wait(ctx); err != nil {
		return err
	}
	if streams.detached.Load() {
		return errDetached
	}
	return execEnd(ctx, api, id)
}

// execEnd is how an exec has ended, as a status.
func execEnd(ctx context.Context, api *client.Client, id string) error {
	got, err := api.ExecInspect(ctx, id, client.ExecInspectOptions{})
	if errdefs.IsNotFound(err) { // the next daemon does not know what this one has begun
		return errors.New("the engine was restarted while the command ran: it may run on in the container, and how it ends is not told")
	}
	if err != nil {
		return err
	}
	return exit(got.ExitCode)
}

func (a *app) size(s session) client.ConsoleSize {
	if !s.tty {
		return client.ConsoleSize{}
	}
	if w, h, err := term.GetSize(int(a.in.Fd())); err == nil {
		return client.ConsoleSize{Width: uint(w), Height: uint(h)}
	}
	return client.ConsoleSize{}
}

// execError gives a command that could not be run a shell's exit code.
func execError(err error) error {
	if err == nil {
		return nil
	}
	var st *status
	if ran := cannotRun(err); errors.As(ran, &st) && st.code == exitCannotRun {
		st.code = 1
		if strings.Contains(st.text, "exec failed") {
			st.code = 126
		}
		return st
	} else {
		return ran
	}
}
