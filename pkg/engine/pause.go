package engine

import (
	"context"
	"errors"
	"time"

	"github.com/moss-containers/moss/pkg/lifecycle"
	"github.com/moss-containers/moss/pkg/moss"
)

// Pause makes a container's processes stand still. Errors: Conflict when it does
// not run or is paused already, NotImplemented where the machine's cgroups cannot.
func (s Containers) Pause(ctx context.Context, ref string) error {
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.release()
	rec := c.record()
	switch {
	case rec.State == moss.StatePaused:
		return moss.Errorf(moss.Conflict, "container %s is already paused", rec.ID)
	case rec.State == moss.StateRestarting:
		return moss.Errorf(moss.Conflict, "container %s is restarting, wait until the container is running", rec.ID)
	case !rec.State.Alive():
		return moss.Errorf(moss.Conflict, "container %s is not running", rec.ID)
	}
	ctx = context.WithoutCancel(ctx) // once begun it is finished
	err = s.holdStill(ctx, c)
	if err == nil {
		_, err = s.commit(c, lifecycle.Pause, func(r *moss.Container) { r.Intent, r.StopAs, r.Run.Frozen = rec.Intent, rec.StopAs, true })
	}
	if err != nil {
		return moss.Wrap(errors.Join(err, s.letGoUnlessHeld(ctx, c)), "pause", rec.Name)
	}
	s.publish(rec, "pause", time.Now())
	return nil
}

// Unpause lets a paused container's processes go on; where a commit reads its
// files, as soon as that has. Errors: Conflict when it is not paused.
func (s Containers) Unpause(ctx context.Context, ref string) error {
	c, err := s.locked(ctx, ref)
	if err != nil {
		return err
	}
	defer c.release()
	rec := c.record()
	if rec.State != moss.StatePaused {
		return moss.Errorf(moss.Conflict, "container %s is not paused", rec.ID)
	}
	held := c.holders > 0
	if !held {
		if err := s.thaw(context.WithoutCancel(ctx), c); err != nil {
			return moss.Wrap(err, "unpause", rec.Name)
		}
	}
	s.unpaused(c, held)
	return nil
}

// unpaused commits that a container is not paused any more, though its processes
// may stand still for another reason; the caller holds the turn.
func (e *Engine) unpaused(c *container, still bool) {
	was := c.record()
	rec, err := e.commitFact(c, lifecycle.Unpause, func(r *moss.Container) { r.Intent, r.StopAs, r.Run.Frozen = was.Intent, was.StopAs, still }, nil)
	if err != nil {
		e.Log.Error("the end of a pause does not fit a container's state", "container", rec.Name, "error", err)
		return
	}
	e.publish(rec, "unpause", time.Now())
}
