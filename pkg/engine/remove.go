package engine

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/lifecycle"
	"github.com/moss-containers/moss/pkg/moss"
)

// Remove deletes a container with its layer, log and record; with force its
// process is killed first. Errors: Conflict when it runs. A container of which
// something could not be removed is dead, and removing it can be tried again.
func (s Containers) Remove(ctx context.Context, ref string, force bool) error {
	return s.removeRef(ctx, ref, force, false)
}

// RemoveContainer is Containers.Remove that takes the anonymous volumes along.
func (s VolumeService) RemoveContainer(ctx context.Context, ref string, force bool) error {
	return s.Containers().removeRef(ctx, ref, force, true)
}

func (s Containers) removeRef(ctx context.Context, ref string, force, volumes bool) error {
	ctx = context.WithoutCancel(ctx)
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	ended := false
	for {
		if err := c.acquire(ctx); err != nil {
			return err
		}
		rec := c.record()
		switch {
		case c.isRemoved() && ended:
			c.release()
			return nil // it was to go at its end, and did
		case c.isRemoved():
			c.release()
			return moss.Errorf(moss.NotFound, "No such container: %s", ref)
		case !rec.State.Alive() && c.isRead() && force:
			c.evict()
			c.release()
			if err := c.unread(ctx); err != nil {
				return err
			}
			continue
		case !rec.State.Alive() && c.isRead():
			c.release()
			return moss.Errorf(moss.Conflict, "cannot remove container %q: its files are being read or written by commit, export, cp or diff: try again when that has ended, or force remove", "/"+rec.Name)
		case !rec.State.Alive():
			if volumes && !rec.RemoveVolumes {
				s.noteFact(c, func(r *moss.Container) { r.RemoveVolumes = true })
			}
			err := s.remove(ctx, c)
			c.release()
			return err
		case !force && rec.State == moss.StatePaused:
			c.release()
			return moss.Errorf(moss.Conflict, "cannot remove container %q: container is paused and must be unpaused first, or force remove", "/"+rec.Name)
		case !force:
			c.release()
			return moss.Errorf(moss.Conflict, "cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+rec.Name, rec.State)
		}
		c.release()
		if _, err := s.end(ctx, c, moss.StopOptions{Signal: signalNumber(syscall.SIGKILL)}, ending{intent: moss.IntentRemove, volumes: volumes}); err != nil {
			return err
		}
		ended = true
	}
}

// removeLater removes a container that was to go at its end, when nobody reads
// its files any more. An engine that is closed leaves that to the next.
func (e *Engine) removeLater(ctx context.Context, c *container) {
	ctx = context.WithoutCancel(ctx)
	for {
		if c.unread(e.ctx) != nil || c.acquire(ctx) != nil { //nolint:contextcheck // the wait ends with the engine
			return
		}
		if !c.isRead() {
			break
		}
		c.release()
	}
	defer c.release()
	if c.isRemoved() || c.record().State.Alive() {
		return
	}
	if err := e.remove(ctx, c); err != nil {
		e.Log.ErrorContext(ctx, "a container could not be removed after its end", "container", c.record().Name, "error", err)
	}
}

// unread waits until nobody reads the container's files.
func (c *container) unread(ctx context.Context) error {
	_, err := c.await(ctx, func(s snapshot) bool { return s.removed || !s.read })
	return err
}

func (c *container) isRead() bool { return c.snapshot().read }

// remove deletes a container without a process; the caller holds the turn.
func (e *Engine) remove(ctx context.Context, c *container) error {
	rec, err := e.commitFact(c, lifecycle.Remove, func(r *moss.Container) { r.Intent = moss.IntentRemove }, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	err = errors.Join(
		e.letPortsGo(ctx, rec), // first: no connection starts it now
		e.cleanUp(ctx, c),
		e.Rootfs.Remove(ctx, rec.ID),
		e.removeImageMounts(ctx, rec),
		e.Logs.Remove(rec),
		os.RemoveAll(rec.Dir),
		e.removeAnonymous(ctx, rec),
	)
	if err == nil {
		err = e.Records.Delete(rec.ID)
	}
	if err != nil {
		_, commitErr := e.commitFact(c, lifecycle.RemoveFail, func(r *moss.Container) {
			r.Run.Error = err.Error()
			r.Intent = moss.IntentRemove
		}, nil)
		return moss.Wrap(errors.Join(err, commitErr), "remove", rec.Name)
	}
	e.freeLabels(rec)
	e.Attacher.Drop(rec.ID.Streams())
	e.mu.Lock()
	delete(e.containers, rec.ID)
	delete(e.names, rec.Name)
	for id, x := range e.execs {
		if x.container == rec.ID {
			delete(e.execs, id)
		}
	}
	e.mu.Unlock()
	e.publish(rec, "destroy", time.Now())
	c.update(func() { c.removed = true })
	return nil
}
