package engine

import (
	"context"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// act does with an unhealthy container what its label says. It is called again
// with each failing probe, so that what went wrong is tried again.
func (r healthRun) act(ctx context.Context) {
	rec := r.c.record()
	action, err := rec.Config.OnUnhealthy()
	if err == nil && action != moss.UnhealthyNone {
		r.e.Log.Info("a container is unhealthy", "container", rec.Name, "action", string(action))
		err = r.end(ctx, action)
	}
	if err != nil && ctx.Err() == nil {
		r.e.Log.Error("an unhealthy container could not be dealt with", "container", rec.Name, "action", string(action), "error", err)
	}
}

func (r healthRun) end(ctx context.Context, action moss.UnhealthyAction) error {
	e, rec := r.e, r.c.record()
	switch action {
	case moss.UnhealthyStop:
		if rec.Stopped {
			return nil // the user ends it already, and says what follows
		}
		_, live, err := e.callOff(ctx, r.c, r.exits, stopSignal(rec), ending{intent: moss.IntentStop, asked: &moss.StopOptions{}})
		if err != nil || !live {
			return err
		}
		if err := e.awaitEnd(ctx, r.c, r.exits, stopTimeout(rec)); err != nil {
			return err
		}
		e.publish(rec, "stop", time.Now())
		return nil
	case moss.UnhealthyRestart:
		if err := r.signal(ctx, stopSignal(rec), true); err != nil {
			return err
		}
		if r.awaitEnd(ctx, stopTimeout(rec)) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err() // its time is not over: the next daemon goes on
		}
		fallthrough
	default:
		if err := r.signal(ctx, syscall.SIGKILL, action == moss.UnhealthyRestart); err != nil {
			return err
		}
		return e.killed(ctx, r.c, r.exits)
	}
}

// signal ends the run without calling its restart off: with again it is started
// again in any case, by whichever daemon sees the end.
func (r healthRun) signal(ctx context.Context, sig syscall.Signal, again bool) error {
	if err := r.c.acquire(ctx); err != nil {
		return err
	}
	defer r.c.release()
	if r.over(r.c.snapshot()) {
		return nil
	}
	if err := r.e.note(r.c, func(c *moss.Container) { c.Run.Again = again }); err != nil {
		return err
	}
	return r.e.signalFinal(ctx, r.c, sig)
}

// awaitEnd says whether the run has ended in time, or someone else deals with that.
func (r healthRun) awaitEnd(ctx context.Context, wait time.Duration) bool {
	if wait >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	_, err := r.c.await(ctx, r.over)
	return err == nil
}
