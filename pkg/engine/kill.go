package engine

import (
	"context"
	"strconv"
	"syscall"

	"github.com/moss-containers/moss/pkg/moss"
)

// Signals reaches running containers' processes.
type Signals struct{ *Engine }

// Signals returns the service that reaches processes.
func (e *Engine) Signals() Signals { return Signals{e} }

// Kill sends a signal to a container's process. SIGKILL and the container's own
// stop signal keep the restart policy from acting, as with docker. After
// SIGKILL it returns when the exit has been dealt with. Errors: Conflict when
// it does not run.
func (s Signals) Kill(ctx context.Context, ref string, sig syscall.Signal) error {
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	run, err := s.send(ctx, c, ref, sig)
	c.release()
	if err != nil || run == anyRun || sig != syscall.SIGKILL {
		return err
	}
	return s.killed(ctx, c, run)
}

// send sends the signal and returns the number of the run it went to, anyRun
// when it called a waiting restart off; the caller holds the turn.
func (s Signals) send(ctx context.Context, c *container, ref string, sig syscall.Signal) (int, error) {
	rec := c.record()
	final := sig == syscall.SIGKILL || sig == stopSignal(rec)
	if isDue(rec) && final {
		return anyRun, s.giveUp(c)
	}
	if !rec.State.Alive() {
		return anyRun, moss.Errorf(moss.Conflict, "cannot kill container: %s: container %s is not running", ref, rec.ID)
	}
	run := c.snapshot().exits
	if final {
		s.noteFact(c, func(r *moss.Container) {
			r.Stopped = true
			if r.Intent == moss.IntentRestart {
				r.Intent = moss.IntentStop
			}
		})
		return run, s.signalFinal(ctx, c, sig)
	}
	return run, s.signal(ctx, c, sig)
}

// killed waits for the end of a run that SIGKILL was sent to.
func (e *Engine) killed(ctx context.Context, c *container, run int) error {
	waiting, cancel := context.WithTimeout(ctx, killGrace)
	defer cancel()
	_, err := c.await(waiting, func(s snapshot) bool { return s.exits != run || s.removed })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return err // the client is gone
	}
	return moss.Errorf(moss.Internal, "cannot stop %q: it is still there %s after SIGKILL", c.record().Name, killGrace)
}

func signalNumber(sig syscall.Signal) string { return strconv.Itoa(int(sig)) }
