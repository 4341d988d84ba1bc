package engine

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Restart stops a container if it runs and starts it.
func (s Containers) Restart(ctx context.Context, ref string, o moss.StopOptions) error {
	ctx = context.WithoutCancel(ctx)
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	c.update(func() { c.keep++ })
	defer c.update(func() { c.keep-- })
	if c.record().State.Alive() {
		if err := s.end(ctx, c, o, "stop"); err != nil {
			return err
		}
	}
	if err := s.restart(ctx, c); err != nil {
		return err
	}
	s.publish(c.record(), "restart", time.Now())
	return nil
}

func (e *Engine) restart(ctx context.Context, c *container) error {
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
	c.update(func() { c.retries = 0 })
	return e.start(ctx, c, 0)
}
