package engine

import (
	"context"
	"errors"
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
	if isDue(rec) {
		defer c.release()
		return s.giveUp(c)
	}
	if !rec.State.Alive() {
		c.release()
		return moss.Errorf(moss.NotModified, "container %s is already stopped", rec.Name)
	}
	c.release()
	_, err = s.end(context.WithoutCancel(ctx), c, o, ending{intent: moss.IntentStop})
	return err
}

// giveUp calls a start off that is due; the caller holds the turn.
func (e *Engine) giveUp(c *container) error {
	if c.record().State != moss.StateRestarting { // of a restart by the user, or by a daemon that was killed
		err := e.rewrite(c, func(r *moss.Container) { r.Stopped, r.Intent = true, moss.IntentNone })
		if rec := c.record(); err == nil && rec.Host.AutoRemove && rec.State == moss.StateExited && !c.kept() {
			e.spawn(func(ctx context.Context) { e.removeLater(ctx, c) })
		}
		return err
	}
	_, err := e.commitFact(c, lifecycle.GiveUp, func(r *moss.Container) { r.Stopped = true }, func() { c.halts++ })
	return err
}

// ending says what a run is ended for. The record has it from before the first
// signal, and keeps what follows the end.
type ending struct {
	intent  moss.Intent
	asked   *moss.StopOptions // of a stop, as it was asked for
	volumes bool              // a removal takes the anonymous volumes along
}

// end ends the run of a live container, as asked with o, and returns when its exit
// has been dealt with. A restart that waits is called off by a stop. live is
// false when there was no run to end.
func (e *Engine) end(ctx context.Context, c *container, o moss.StopOptions, what ending) (live bool, err error) {
	rec := c.record()
	sig, wait := stopSignal(rec), stopTimeout(rec)
	if o.Signal != "" {
		if sig, err = moss.ParseSignal(o.Signal); err != nil {
			return false, err
		}
	}
	if o.Timeout != nil {
		wait = *o.Timeout
	}
	what.asked = &o
	run, live, err := e.callOff(ctx, c, anyRun, sig, what)
	if err == nil && live {
		err = e.awaitEnd(ctx, c, run, wait)
	}
	if err != nil {
		return live, errors.Join(err, e.onlyStop(ctx, c, run, what.intent))
	}
	if live && what.intent != moss.IntentRemove {
		e.publish(rec, "stop", time.Now())
	}
	return live, nil
}

// onlyStop takes back what was to follow an end that did not come, and of which
// the client is told so. A daemon that is going leaves it to the next.
func (e *Engine) onlyStop(ctx context.Context, c *container, run int, intent moss.Intent) error {
	if intent == moss.IntentStop || ctx.Err() != nil {
		return nil
	}
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	switch s := c.snapshot(); {
	case s.removed || s.rec.Intent == moss.IntentNone:
	case s.exits == run && s.rec.Intent == intent:
		e.noteFact(c, func(r *moss.Container) { r.Intent, r.RemoveVolumes = moss.IntentStop, false })
	case s.exits == run+1 && (isDue(s.rec) || s.rec.State == moss.StateExited): // it has just come
		return e.giveUp(c)
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
	if _, live, err := e.callOff(ctx, c, run, syscall.SIGKILL, ending{}); err != nil || !live {
		return err
	}
	return e.killed(ctx, c, run)
}

// anyRun is whichever run there is when callOff looks.
const anyRun = -1

// callOff notes that the user ends the given run, signals its process and
// returns the run's number. live is false when that run is over already; a
// restart that waits is called off, unless a start or a removal is to follow. The
// next daemon goes on with what it is for; no intent is as before, and so is any
// where it is being removed.
func (e *Engine) callOff(ctx context.Context, c *container, run int, sig syscall.Signal, what ending) (_ int, live bool, err error) {
	if err := c.acquire(ctx); err != nil {
		return run, false, err
	}
	defer c.release()
	s := c.snapshot()
	switch {
	case s.removed || (run != anyRun && s.exits != run):
		return s.exits, false, nil
	case isDue(s.rec) && what.intent != moss.IntentRestart && what.intent != moss.IntentRemove:
		return s.exits, false, e.giveUp(c)
	case !s.rec.State.Alive():
		return s.exits, false, nil
	}
	e.noteFact(c, func(r *moss.Container) {
		r.Stopped = true
		r.RemoveVolumes = r.RemoveVolumes || what.volumes
		if what.intent != moss.IntentNone && r.Intent != moss.IntentRemove {
			r.Intent, r.StopAs = what.intent, what.asked
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
