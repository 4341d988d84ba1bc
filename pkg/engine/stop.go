package engine

import (
	"context"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/lifecycle"
	"github.com/moss-containers/moss/pkg/moss"
)

// killGrace is how long the kernel gets to end a process after SIGKILL.
const killGrace = 10 * time.Second

// Stop ends a container's process: its stop signal, then after the timeout
// SIGKILL. It goes on when the client leaves. Errors: NotModified when it does
// not run.
func (s Containers) Stop(ctx context.Context, ref string, o moss.StopOptions) error {
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	rec := c.record()
	if rec.State == moss.StateRestarting {
		defer c.release()
		return s.giveUp(c)
	}
	if !rec.State.Alive() {
		c.release()
		return moss.Errorf(moss.NotModified, "container %s is already stopped", rec.Name)
	}
	c.release()
	return s.end(context.WithoutCancel(ctx), c, o, "stop")
}

// giveUp calls a waiting restart off; the caller holds the turn.
func (e *Engine) giveUp(c *container) error {
	_, err := e.commitFact(c, lifecycle.GiveUp, func(r *moss.Container) { r.Stopped = true }, func() { c.halts++ })
	return err
}

// end stops a live container, or calls its waiting restart off, and returns
// when its exit has been dealt with. event tells of that, if not empty.
func (e *Engine) end(ctx context.Context, c *container, o moss.StopOptions, event string) error {
	rec := c.record()
	sig, wait := stopSignal(rec), stopTimeout(rec)
	if o.Signal != "" {
		var err error
		if sig, err = moss.ParseSignal(o.Signal); err != nil {
			return err
		}
	}
	if o.Timeout != nil {
		wait = *o.Timeout
	}
	run, live, err := e.callOff(ctx, c, anyRun, sig, &o)
	if err != nil || !live {
		return err
	}
	if err := e.awaitEnd(ctx, c, run, wait); err != nil {
		return err
	}
	if event != "" {
		e.publish(rec, event, time.Now())
	}
	return nil
}

// awaitEnd waits for the end of a run that was signalled; after the time, for
// ever where that is negative, it kills it.
func (e *Engine) awaitEnd(ctx context.Context, c *container, run int, wait time.Duration) error {
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if wait >= 0 {
		waiting, cancel = context.WithTimeout(ctx, wait)
	}
	_, err := c.await(waiting, func(s snapshot) bool { return s.exits != run || s.removed })
	cancel()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // its time is not over: the daemon is going, and the next one goes on
	}
	if _, live, err := e.callOff(ctx, c, run, syscall.SIGKILL, nil); err != nil || !live {
		return err
	}
	return e.killed(ctx, c, run)
}

// anyRun is whichever run there is when callOff looks.
const anyRun = -1

// callOff notes that the user ends the given run, signals its process and
// returns the run's number. live is false when that run is over already; a
// restart that waits is called off. The next daemon goes on as asked; nil is as before.
func (e *Engine) callOff(ctx context.Context, c *container, run int, sig syscall.Signal, asked *moss.StopOptions) (_ int, live bool, err error) {
	if err := c.acquire(ctx); err != nil {
		return run, false, err
	}
	defer c.release()
	s := c.snapshot()
	switch {
	case s.removed || (run != anyRun && s.exits != run):
		return s.exits, false, nil
	case s.rec.State == moss.StateRestarting:
		return s.exits, false, e.giveUp(c)
	case !s.rec.State.Alive():
		return s.exits, false, nil
	}
	e.noteFact(c, func(r *moss.Container) {
		r.Stopped, r.Intent = true, moss.IntentStop
		if asked != nil {
			r.StopAs = asked
		}
	})
	return s.exits, true, e.signalFinal(ctx, c, sig)
}

// signalFinal sends a signal that is to end the process, which it cannot heed
// while it stands still. SIGKILL needs no such help.
func (e *Engine) signalFinal(ctx context.Context, c *container, sig syscall.Signal) error {
	if err := e.signal(ctx, c, sig); err != nil || sig == syscall.SIGKILL {
		return err
	}
	if c.record().State == moss.StatePaused {
		e.unpaused(c, true)
	}
	return e.letGoSurely(ctx, c)
}

// signal sends a signal to the container's process. One that has ended while
// its exit is not dealt with yet counts as reached.
func (e *Engine) signal(ctx context.Context, c *container, sig syscall.Signal) error {
	err := e.Units.Kill(ctx, c.id, sig)
	if err != nil && moss.ClassOf(err) != moss.Conflict {
		return moss.Wrap(err, "signal", c.record().Name)
	}
	e.publish(c.record(), "kill", time.Now(), "signal", signalNumber(sig))
	return nil
}
