package engine

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// watchHealth checks the health of the present run until it ends; without a
// check it does nothing. The caller holds the turn.
func (e *Engine) watchHealth(c *container) {
	rec := c.record()
	k, ok := checkOf(rec)
	if !ok {
		return
	}
	run := healthRun{e: e, c: c, k: k, pid: rec.Run.PID, exits: c.snapshot().exits, began: begun(rec.Run.StartedAt, time.Now())}
	e.spawn(run.watch)
}

// resumeHealth goes on with the checks of a container that an earlier daemon
// has started, and ends what that one had begun; the caller holds the turn.
func (e *Engine) resumeHealth(ctx context.Context, c *container) {
	rec := c.record()
	if _, ok := checkOf(rec); !ok {
		return
	}
	if r, ok := e.Runtime.(ProbeEnder); ok {
		if err := r.EndProbes(ctx, c.id); err != nil {
			e.Log.Error("a health check of the last daemon could not be ended", "container", rec.Name, "error", err)
		}
	}
	if rec.Run.Health == nil { // a moss that ran no checks has started it
		e.noteFact(c, func(r *moss.Container) { r.Run.Health = newHealth(r) })
	}
	e.watchHealth(c)
}

// healthRun is a run of a container while its health is checked.
type healthRun struct {
	e     *Engine
	c     *container
	k     check
	pid   int // of the run
	exits int // runs that had ended before it
	began time.Time
}

// begun is when a run began, on the clock that nobody sets. Of a run that an earlier
// daemon started the clock on the wall tells; where that was set back since, now is as good.
func begun(at, now time.Time) time.Time { return now.Add(-max(0, now.Sub(at))) }

func (r healthRun) over(s snapshot) bool {
	return s.removed || !s.rec.State.Alive() || s.rec.Run.PID != r.pid
}

// still says that the processes stand still, and a check with them.
func still(s snapshot) bool { return s.rec.State == moss.StatePaused || s.rec.Run.Frozen }

func (r healthRun) watch(ctx context.Context) {
	if r.c.record().Run.Again { // the last daemon was at it
		r.act(ctx)
		return
	}
	for r.rest(ctx) {
		p, ok := r.probe(ctx)
		if !ok {
			continue
		}
		if p.ExitCode != 0 && !r.runs() {
			return // and not one probe more: the unit does not end before it is empty
		}
		if status := r.judge(ctx, p); status == moss.HealthUnhealthy {
			r.act(ctx)
		}
	}
}

// rest waits until the next probe is due, anew each time that the processes have
// stood still; false when the run is over.
func (r healthRun) rest(ctx context.Context) bool {
	s := r.c.snapshot()
	if r.over(s) {
		return false
	}
	now := time.Now()
	wait := r.k.pause(s.rec.Run.Health, r.began, now)
	if log := s.rec.Run.Health.Log; len(log) > 0 {
		wait = min(wait, max(0, wait-now.Sub(log[len(log)-1].End)))
	}
	for {
		waiting, cancel := context.WithTimeout(ctx, wait)
		s, err := r.c.await(waiting, func(s snapshot) bool { return r.over(s) || still(s) })
		cancel()
		if err != nil {
			return ctx.Err() == nil
		}
		if s, err = r.c.await(ctx, func(s snapshot) bool { return r.over(s) || !still(s) }); err != nil || r.over(s) {
			return false
		}
		wait = r.k.pause(s.rec.Run.Health, r.began, time.Now())
	}
}

// probe checks once. What is told by a check that had to stand still, or whose
// container has ended, is no answer: then ok is false.
func (r healthRun) probe(ctx context.Context) (p moss.HealthProbe, ok bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if _, err := r.c.await(ctx, func(s snapshot) bool { return r.over(s) || still(s) }); err == nil {
			cancel()
		}
	}()
	p = r.e.Execs().probe(ctx, r.c, r.k)
	ok = ctx.Err() == nil
	cancel()
	<-watched
	return p, ok
}

// runs says whether the container's process still runs: its end takes a probe
// along, and may be told later than the probe's.
func (r healthRun) runs() bool {
	_, err := r.e.Meter.Processes(r.e.ctx, r.c.id, r.pid)
	return err == nil || moss.ClassOf(err) != moss.Conflict
}

// judge takes a probe's result into the record and says what the health is now.
func (r healthRun) judge(ctx context.Context, p moss.HealthProbe) moss.HealthStatus {
	if err := r.c.acquire(ctx); err != nil {
		return moss.HealthNone
	}
	defer r.c.release()
	s := r.c.snapshot()
	if r.over(s) {
		return moss.HealthNone
	}
	was := s.rec.Run.Health
	now := r.k.after(was, p, r.began)
	r.e.noteFact(r.c, func(c *moss.Container) { c.Run.Health = now })
	if now.Status != was.Status {
		r.e.publish(s.rec, "health_status: "+string(now.Status), p.End)
	}
	return now.Status
}
