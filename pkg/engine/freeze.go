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

// freeze holds a live container's processes still; thaw, which can be called
// more than once, lets them go when nobody else holds them. A container without
// processes is still already.
func (e *Engine) freeze(ctx context.Context, c *container) (thaw func() error, err error) {
	if err := c.acquire(ctx); err != nil {
		return nil, err
	}
	defer c.release()
	if !c.record().State.Alive() {
		return func() error { return nil }, nil
	}
	if err := e.holdStill(ctx, c); err != nil {
		thawErr := e.letGoSurely(ctx, c) // some may have stopped
		switch moss.ClassOf(err) {
		case moss.Conflict: // it has just ended
			return func() error { return nil }, thawErr
		case moss.NotImplemented:
			err = moss.Errorf(moss.NotImplemented, "%w; without it: --pause=false", err)
		default:
		}
		return nil, errors.Join(err, thawErr)
	}
	c.update(func() { c.holders++ })
	return sync.OnceValue(func() error { return e.unhold(context.WithoutCancel(ctx), c) }), nil
}

// held says whether the processes are to stand still; the caller holds the turn.
func (c *container) held() bool { return c.holders > 0 || c.record().State == moss.StatePaused }

// holdStill freezes; the caller holds the turn, and lets go after an error. The
// record says so before, for the daemon that comes after one that was killed.
func (e *Engine) holdStill(ctx context.Context, c *container) error {
	frozen := c.record().Run.Frozen
	if frozen && c.held() {
		return nil
	}
	if !frozen {
		if err := e.note(c, func(r *moss.Container) { r.Run.Frozen = true }); err != nil {
			return err
		}
	}
	freezing, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	return e.Freezer.Freeze(freezing, c.id)
}

func (e *Engine) unhold(ctx context.Context, c *container) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	c.update(func() { c.holders-- })
	return e.letGoUnlessHeld(ctx, c)
}

// letGoUnlessHeld is letGoSurely where nobody wants them to stand still; the
// caller holds the turn.
func (e *Engine) letGoUnlessHeld(ctx context.Context, c *container) error {
	if c.held() {
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
		if !c.held() {
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
	if err := e.thaw(ctx, c); err != nil {
		return moss.Wrap(err, "let go the processes of", c.record().Name)
	}
	e.noteFact(c, func(r *moss.Container) { r.Run.Frozen = false })
	return nil
}

// thaw returns when the processes do not stand still any more; the caller holds the turn.
func (e *Engine) thaw(ctx context.Context, c *container) error {
	thawing, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	err := e.Freezer.Thaw(thawing, c.id)
	switch moss.ClassOf(err) {
	case moss.Conflict, moss.NotFound, moss.NotImplemented: // nothing stands still
		return nil
	default:
		return err
	}
}
