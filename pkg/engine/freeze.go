package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// freezeTimeout bounds the wait for the kernel: the container's turn is taken meanwhile.
const freezeTimeout = 10 * time.Second

// freeze holds a running container's processes still; thaw, which can be called
// more than once, lets them go when nobody else holds them. A container without
// processes is still already.
func (e *Engine) freeze(ctx context.Context, c *container) (thaw func() error, err error) {
	if err := c.acquire(ctx); err != nil {
		return nil, err
	}
	defer c.release()
	if c.record().State != moss.StateRunning {
		return func() error { return nil }, nil
	}
	if err := e.holdStill(ctx, c); err != nil {
		return nil, err
	}
	c.update(func() { c.holders++ })
	return sync.OnceValue(func() error { return e.unhold(context.WithoutCancel(ctx), c) }), nil
}

// holdStill freezes; the caller holds the turn. The record says so before, for
// the daemon that comes after one that was killed.
func (e *Engine) holdStill(ctx context.Context, c *container) error {
	if c.record().Run.Frozen {
		return nil
	}
	if err := e.note(c, func(r *moss.Container) { r.Run.Frozen = true }); err != nil {
		return err
	}
	freezing, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	err := e.Freezer.Freeze(freezing, c.id)
	if err == nil {
		return nil
	}
	thawErr := e.letGoSurely(ctx, c) // some may have stopped
	switch moss.ClassOf(err) {
	case moss.Conflict: // it has just ended
		return thawErr
	case moss.NotImplemented:
		err = moss.Errorf(moss.NotImplemented, "%w; without it: --pause=false", err)
	default:
	}
	return errors.Join(err, thawErr)
}

func (e *Engine) unhold(ctx context.Context, c *container) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	c.update(func() { c.holders-- })
	if c.holders > 0 {
		return nil
	}
	return e.letGoSurely(ctx, c)
}

// letGoSurely is letGo, tried again in the background as long as it fails; the
// caller holds the turn.
func (e *Engine) letGoSurely(ctx context.Context, c *container) error {
	err := e.letGo(context.WithoutCancel(ctx), c)
	if err != nil {
		e.spawn(func(ctx context.Context) { e.letGoLater(ctx, c) })
	}
	return err
}

func (e *Engine) letGoLater(ctx context.Context, c *container) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return // the next daemon does it
		}
		if c.acquire(ctx) != nil {
			return
		}
		var err error
		if c.holders == 0 {
			err = e.letGo(ctx, c)
		}
		c.release()
		if err == nil {
			return
		}
	}
}

// letGo thaws what was frozen for a commit; the caller holds the turn. Where that
// fails the record still says so.
func (e *Engine) letGo(ctx context.Context, c *container) error {
	if !c.record().Run.Frozen {
		return nil
	}
	thawing, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	err := e.Freezer.Thaw(thawing, c.id)
	switch moss.ClassOf(err) {
	case moss.Conflict, moss.NotFound, moss.NotImplemented: // nothing stands still
		err = nil
	default:
	}
	if err != nil {
		return moss.Wrap(err, "let go the processes of", c.record().Name)
	}
	e.noteFact(c, func(r *moss.Container) { r.Run.Frozen = false })
	return nil
}
