package engine

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// newKills says whether the kernel has killed more in a unit for want of memory
// than the record knows of.
func newKills(rec *moss.Container, st moss.UnitStatus) bool {
	return st.OOMKills > 0 && (st.PID != rec.Run.PID || st.OOMKills > rec.Run.OOMKills)
}

// recall adds what the manager has written of a run that no daemon has watched of
// late: that the kernel killed for want of memory, and that somebody had the unit
// stopped, which is the user's word; with a fresh holder all were, by nobody's. The
// caller holds the turn.
func (e *Engine) recall(ctx context.Context, c *container, st moss.UnitStatus, fresh bool) moss.UnitStatus {
	rec := c.record()
	if e.UnitHistory == nil || rec.Ended != nil {
		return st
	}
	past, err := e.UnitHistory.Past(ctx, c.id, rec.Run.StartedAt)
	if err != nil {
		e.Log.WarnContext(ctx, "what happened to a container while no daemon ran is not known wholly: whether memory was short and whether its unit was stopped", "container", rec.Name, "error", err)
		return st
	}
	st.OOMKills = max(st.OOMKills, past.OOMKills)
	if !past.StoppedAt.IsZero() && !fresh {
		c.update(func() { c.byManager = rec.Run.PID })
		if st.ExitedAt.IsZero() {
			st.ExitedAt = past.StoppedAt
		}
	}
	at := past.OOMAt
	if st.Exited && at.After(st.ExitedAt) { // the manager writes when it has been told
		at = st.ExitedAt
	}
	e.noteKills(c, st, at)
	return st
}

// killedInside deals with a process that the kernel has killed in a container that goes on.
func (e *Engine) killedInside(ctx context.Context, c *container, st moss.UnitStatus) {
	if err := c.acquire(context.WithoutCancel(ctx)); err != nil {
		return
	}
	defer c.release()
	// A start that was under way has told the record its process meanwhile.
	if rec := c.record(); !c.isRemoved() && rec.State.Alive() && rec.Run.PID == st.PID {
		e.noteKills(c, st, time.Time{})
	}
}

// noteKills tells, once, of what the kernel has killed in a container's present
// run, its own process or another. As docker has it, the container counts as killed
// from then to its next start, and kills noticed together are one event. The caller
// holds the turn. Where at is zero, they are of now or, in a run that has ended, of its end.
func (e *Engine) noteKills(c *container, st moss.UnitStatus, at time.Time) {
	if st.OOMKills <= c.record().Run.OOMKills {
		return
	}
	if at.IsZero() {
		at = st.ExitedAt
	}
	if at.IsZero() {
		at = time.Now()
	}
	e.noteFact(c, func(r *moss.Container) { r.Run.OOMKilled, r.Run.OOMKills = true, st.OOMKills })
	e.publish(c.record(), "oom", at)
}
