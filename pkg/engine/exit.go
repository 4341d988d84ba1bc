package engine

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/moss-containers/moss/pkg/lifecycle"
	"github.com/moss-containers/moss/pkg/moss"
)

// lostExitCode is what a run ends with when nothing is left that knows.
const lostExitCode = 255

// Watch follows the units until ctx ends, and deals with every exit.
func (e *Engine) Watch(ctx context.Context) error {
	e.spawn(e.sweep)
	return e.Units.Watch(ctx, func(st moss.UnitStatus) {
		c := e.byUnit(st.Short)
		if c == nil {
			return
		}
		if st.Phase == moss.UnitStopping && !st.Exited {
			// Someone stops the unit, not us: systemctl, or the manager together with the holder.
			c.update(func() { c.byManager = st.PID })
		}
		switch {
		case ended(st):
			e.spawn(func(ctx context.Context) { e.exited(ctx, c, st) })
		case newKills(c.record(), st):
			e.spawn(func(ctx context.Context) { e.killedInside(ctx, c, st) })
		}
	})
}

// sweep looks for containers whose unit went away between Restore and Watch.
func (e *Engine) sweep(ctx context.Context) {
	alive := make(map[*container]int) // with the pid: a later run is not meant
	for _, c := range e.all() {
		if rec := c.record(); rec.State.Alive() {
			alive[c] = rec.Run.PID
		}
	}
	list, err := e.Units.List(ctx)
	if err != nil {
		e.Log.Error("the units cannot be listed", "error", err)
		return
	}
	there := make(map[string]bool, len(list))
	for _, st := range list {
		there[st.Short] = true
	}
	for c, pid := range alive {
		if !there[c.id.Short()] {
			e.exited(ctx, c, moss.UnitStatus{Short: c.id.Short(), Phase: moss.UnitGone, PID: pid})
		}
	}
}

// ended says whether a unit is over: its process, and what was left beside it.
func ended(st moss.UnitStatus) bool {
	return st.Phase == moss.UnitEnded || st.Phase == moss.UnitGone
}

// exited deals with the end of a run, once: later tidings of it find the
// container without a process, or with another one.
func (e *Engine) exited(ctx context.Context, c *container, st moss.UnitStatus) {
	// Also while the daemon ends: what it has been told is written down.
	ctx = context.WithoutCancel(ctx)
	if err := c.acquire(ctx); err != nil {
		return
	}
	rec := c.record()
	st, mine := e.endOf(ctx, rec, st)
	if !rec.State.Alive() || c.isRemoved() || !mine {
		c.release()
		return
	}
	ctx, end := e.follow(ctx, "exit", c)
	defer end(nil)
	rec, retry := e.finishRun(ctx, c, st)
	remove := rec.Host.AutoRemove && !isDue(rec) && !c.kept()
	c.release()

	if retry {
		e.scheduleRestart(c)
	}
	if remove {
		e.removeLater(ctx, c)
	}
}

// endOf says whether tidings of an end are about the present run: what is told
// late of the run before must not end this one. Where they name no process, as of
// a unit that vanished, the newest word is asked for.
func (e *Engine) endOf(ctx context.Context, rec *moss.Container, st moss.UnitStatus) (moss.UnitStatus, bool) {
	if st.PID != 0 {
		return st, st.PID == rec.Run.PID
	}
	list, err := e.Units.List(ctx)
	if err != nil {
		e.Log.Error("the units cannot be listed", "error", err)
		return st, true // it said that it ended
	}
	for _, now := range list {
		if now.Short == st.Short {
			return now, ended(now) && now.PID == rec.Run.PID
		}
	}
	return st, true
}

func (c *container) kept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keep > 0
}

// finishRun tears a run down and commits its end; the caller holds the turn.
// It says whether the restart policy wants another.
func (e *Engine) finishRun(ctx context.Context, c *container, st moss.UnitStatus) (*moss.Container, bool) {
	e.noteKills(c, st, time.Time{})
	rec := c.record()
	run := rec.Run
	run.PID, run.Frozen, run.Again, run.Health = 0, false, false, endedHealth(rec.Run.Health)
	run.FinishedAt, run.ExitCode = st.ExitedAt, st.ExitCode
	switch {
	case st.Exited:
	case rec.Ended != nil: // a daemon that was killed while it tore the run down had seen it
		run = *rec.Ended
	default:
		run.ExitCode, run.Error = lostExitCode, "its unit went away and nobody saw how the process ended"
	}
	if run.FinishedAt.IsZero() {
		run.FinishedAt = time.Now()
	}
	// The unit, which knew, goes with the rest: the next daemon is told by the record.
	e.noteFact(c, func(r *moss.Container) { ended := run; r.Ended = &ended })
	if err := e.teardown(ctx, rec); err != nil {
		run.Error = errors.Join(errors.New("its end could not be cleaned up"), err).Error()
		e.Log.ErrorContext(ctx, "a container's end could not be cleaned up", "container", rec.Name, "error", err)
		c.update(func() { c.unclean = true })
	}

	stopped := rec.Stopped
	c.mu.Lock()
	byManager := c.byManager != 0 && c.byManager == rec.Run.PID
	c.mu.Unlock()
	if byManager && !stopped {
		// systemctl stop is the user's word like docker stop; going down with the holder is nobody's.
		stopped = !e.Host.GoingDown(ctx)
	}
	c.mu.Lock()
	if run.FinishedAt.Sub(run.StartedAt) >= steadyRun {
		c.retries = 0
	}
	c.mu.Unlock()
	next := moss.IntentNone // what is to follow outlives the daemon that was asked for it
	switch rec.Intent {
	case moss.IntentRestart:
		next, run.Restarts = moss.IntentStart, 0
	case moss.IntentRemove:
		next = moss.IntentRemove
	default: // nothing
	}
	trigger := lifecycle.Exit
	calledOff := stopped || byManager
	retry := shouldRestart(rec.Host.RestartPolicy, run.ExitCode, run.Restarts, calledOff) || rec.Run.Again && !calledOff
	if retry {
		trigger = lifecycle.ExitRetry
	}
	// docker's order: the event of the end is out before any waiter moves on.
	e.publish(rec, "die", run.FinishedAt, "exitCode", strconv.Itoa(run.ExitCode),
		"execDuration", strconv.Itoa(int(run.FinishedAt.Sub(run.StartedAt).Seconds())))
	if rec.Network != nil {
		e.portEvents(rec, rec.Network.Published, "unpublish", run.FinishedAt)
		e.networkEvents(rec, *rec.Network, "disconnect", run.FinishedAt)
	}
	e.publishMounts(rec, "unmount", run.FinishedAt)
	e.dropExecs(rec.ID)
	rec, err := e.commitFact(c, trigger, func(r *moss.Container) { r.Run, r.Network, r.Stopped, r.Intent = run, nil, stopped, next }, func() {
		c.exits++
		c.code = run.ExitCode
		if !retry {
			c.halts++
		}
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "the end of a container does not fit its state", "container", rec.Name, "error", err)
	}
	return rec, retry
}

// teardown takes back all that a start made. Everything is tried; the errors
// are joined.
func (e *Engine) teardown(ctx context.Context, rec *moss.Container) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	net := moss.Attachment{Mode: rec.Host.NetworkMode}
	if rec.Network != nil {
		net = *rec.Network
	}
	steps := []func() error{
		func() error { return e.Stdio.Finish(ctx, rec.ID.Streams()) },
		func() error { return e.detach(ctx, rec.ID, net) },
		func() error { return e.Runtime.Delete(ctx, rec) },
		func() error { return e.Units.Collect(ctx, rec.ID) },
	}
	// Side by side: none needs another, and each waits for someone else.
	errs := make(chan error, len(steps))
	for _, step := range steps {
		go func() { errs <- step() }()
	}
	var all []error
	for range steps {
		all = append(all, <-errs)
	}
	all = append(all, e.withdrawSecrets(ctx, rec), e.unmount(ctx, rec.ID))
	return errors.Join(all...)
}

// cleanUp tears down what an earlier end could not; the caller holds the turn.
func (e *Engine) cleanUp(ctx context.Context, c *container) error {
	c.mu.Lock()
	unclean := c.unclean
	c.mu.Unlock()
	if !unclean {
		return nil
	}
	if err := e.teardown(ctx, c.record()); err != nil {
		return moss.Wrap(err, "clean up after the last run of", c.record().Name)
	}
	c.update(func() { c.unclean = false })
	return nil
}

// scheduleRestart starts the container again after the back-off, unless
// somebody changes its state before.
func (e *Engine) scheduleRestart(c *container) {
	c.mu.Lock()
	wait := backoff(c.retries)
	c.retries++
	c.mu.Unlock()
	if e.quiet.Load() {
		return // the next daemon finds it waiting, and starts it
	}
	e.spawn(func(ctx context.Context) {
		waiting, cancel := context.WithTimeout(ctx, wait)
		_, err := c.await(waiting, func(s snapshot) bool { return s.removed || s.rec.State != moss.StateRestarting })
		cancel()
		if err == nil || ctx.Err() != nil || !e.awaitSupport(ctx, c) {
			return
		}
		e.restartByPolicy(ctx, c)
	})
}

func (e *Engine) restartByPolicy(ctx context.Context, c *container) {
	if err := c.acquire(ctx); err != nil {
		return
	}
	defer c.release()
	rec := c.record()
	if c.isRemoved() || rec.State != moss.StateRestarting || e.quiet.Load() {
		return
	}
	ctx, end := e.follow(ctx, "restart", c)
	err := e.start(ctx, c, rec.Run.Restarts+1)
	end(err)
	if err != nil {
		e.Log.ErrorContext(ctx, "the restart policy could not start a container", "container", rec.Name, "error", err)
	}
}
