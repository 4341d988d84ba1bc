package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// session is how a client joins a container or an exec.
type session struct {
	tty, stdin, stdout, stderr bool
	detachKeys                 string
	proxy                      bool // pass signals on
	autoRemove                 bool
	start                      bool // start the container once attached
	run                        bool // moss run: what is no end of the container ends as docker does
}

// follow attaches to a container, starts it where asked to, and returns its
// exit code as a status, or nil after a detach.
func (a *app) follow(ctx context.Context, id string, s session) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	if s.proxy { // SIGTERM is the container's too, and the session lasts until it ends
		ctx = context.WithoutCancel(ctx)
	}
	conn, err := api.ContainerAttach(ctx, id, client.ContainerAttachOptions{
		Stream: true, Stdin: s.stdin, Stdout: s.stdout, Stderr: s.stderr, DetachKeys: s.detachKeys,
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	condition := container.WaitConditionNextExit
	if s.autoRemove {
		condition = container.WaitConditionRemoved
	}
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := api.ContainerWait(waitCtx, id, client.ContainerWaitOptions{Condition: condition})

	restore, err := a.rawTerminal(s)
	if err != nil {
		return err
	}
	defer restore()
	if s.proxy {
		stop := a.proxySignals(ctx, func(sig string) {
			_, _ = api.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: sig}) // it may just have ended
		})
		defer stop()
	}
	streams, err := a.copyStreams(conn.HijackedResponse, s)
	if err != nil {
		return err
	}
	if s.start {
		if _, err := api.ContainerStart(ctx, id, client.ContainerStartOptions{}); err != nil {
			return cannotRun(err)
		}
	}
	if s.tty {
		stop := a.followSize(func(o client.ContainerResizeOptions) {
			_, _ = api.ContainerResize(ctx, id, o) // the next change tries again
		})
		defer stop()
	}
	if err := streams.wait(ctx); err != nil {
		return err
	}
	if streams.detached.Load() && !s.start { // as docker has it: no error of a run or start
		return errDetached
	}
	if streams.detached.Load() {
		return nil
	}
	select {
	case r := <-wait.Result:
		if r.Error != nil && r.Error.Message != "" && r.StatusCode == 0 || notAwaited(r) {
			return &status{exitCannotRun, r.Error.Message}
		}
		return exit(int(r.StatusCode))
	case err := <-wait.Error:
		if s.run {
			return &status{exitCannotRun, message(err)}
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exit makes an exit code the outcome of the program.
func exit(code int) error {
	if code == 0 {
		return nil
	}
	return &status{code: code}
}

// errDetached ends an attach or an exec that was left with the detach keys, in
// docker's words and with its status.
var errDetached = &status{1, "read escape sequence"}

// pumps are the copies between a client's streams and its connection.
type pumps struct {
	done     chan error // the end of the output
	detached atomic.Bool
}

func (p *pumps) wait(ctx context.Context) error {
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copyStreams pumps stdin to the connection and the connection to stdout and
// stderr.
func (a *app) copyStreams(conn client.HijackedResponse, s session) (*pumps, error) {
	p := &pumps{done: make(chan error, 1)}
	var in io.Reader = a.in
	if s.tty && s.stdin {
		keys, err := detachSequence(s.detachKeys)
		if err != nil {
			return nil, err
		}
		in = &watcher{from: a.in, keys: keys, found: func() { p.detached.Store(true) }}
	}
	if s.stdin {
		go func() {
			_, _ = io.Copy(conn.Conn, in) // a closed connection ends the session anyway
			_ = conn.CloseWrite()
		}()
	} else {
		_ = conn.CloseWrite()
	}
	go func() {
		var err error
		if s.tty {
			_, err = io.Copy(a.out, conn.Reader)
		} else {
			_, err = stdcopy.StdCopy(a.out, a.err, conn.Reader)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		p.done <- err
	}()
	return p, nil
}

// errNoTerminal is docker's answer, and its status, to -t with an input that is none.
var errNoTerminal = &status{1, "the input device is not a TTY"}

// rawTerminal hands the terminal over to the container for a session with a
// terminal and stdin.
func (a *app) rawTerminal(s session) (restore func(), err error) {
	fd := int(a.in.Fd())
	if !s.tty || !s.stdin {
		return func() {}, nil
	}
	if !term.IsTerminal(fd) {
		return nil, errNoTerminal
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, old) }, nil
}

// followSize tells the size of the terminal now and at every change.
func (a *app) followSize(resize func(client.ContainerResizeOptions)) (stop func()) {
	out, ok := a.out.(*os.File)
	if !ok || !term.IsTerminal(int(out.Fd())) {
		return func() {}
	}
	now := func() {
		if w, h, err := term.GetSize(int(out.Fd())); err == nil && w > 0 && h > 0 {
			resize(client.ContainerResizeOptions{Width: uint(w), Height: uint(h)})
		}
	}
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, unix.SIGWINCH)
	now()
	go func() {
		for range changes {
			now()
		}
	}()
	return func() { signal.Stop(changes); close(changes) }
}

// proxySignals passes on every signal that is not about this program itself.
func (a *app) proxySignals(ctx context.Context, send func(string)) (stop func()) {
	incoming := make(chan os.Signal, 32)
	signal.Notify(incoming)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case sig := <-incoming:
				switch sig {
				case unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG, unix.SIGWINCH, unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP:
					continue
				}
				if n, ok := sig.(syscall.Signal); ok {
					send(strconv.Itoa(int(n)))
				}
			}
		}
	}()
	return func() { signal.Stop(incoming); close(done) }
}
