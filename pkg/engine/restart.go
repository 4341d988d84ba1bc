package engine

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Restart stops a container if it runs and starts it. Errors: Conflict when
// somebody else stops it meanwhile.
func (s Containers) Restart(ctx context.Context, ref string, o moss.StopOptions) error {
	ctx = context.WithoutCancel(ctx)
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.restart(ctx, c, o)
}

// restart can be cut off anywhere: from before the stop until the start the
// record says that a start is due.
func (e *Engine) restart(ctx context.Context, c *container, o moss.StopOptions) error {
	c.update(func() { c.keep++ })
	defer c.update(func() { c.keep-- })
	ended := false
	if c.record().State.Alive() {
		var err error
		if ended, err = e.end(ctx, c, o, ending{intent: moss.IntentRestart}); err != nil {
			return err
		}
	}
	if err := e.startAfter(ctx, c, ended); err != nil {
		return err
	}
	e.publish(c.record(), "restart", time.Now())
	return nil
}

// startAfter starts a container that is to be restarted; ended says that its run was ended for that.
func (e *Engine) startAfter(ctx context.Context, c *container, ended bool) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	if c.isRemoved() {
		return moss.Errorf(moss.NotFound, "No such container: %s", c.id)
	}
	if c.record().State.Alive() {
		return nil // another client was faster
	}
	if ended && !isDue(c.record()) {
		if c.record().Host.AutoRemove {
			e.spawn(func(ctx context.Context) { e.removeLater(ctx, c) })
		}
		return moss.Errorf(moss.Conflict, "container %s was stopped while it was being restarted", c.record().Name)
	}
	c.update(func() { c.retries = 0 })
	return e.start(ctx, c, 0)
}
