package engine

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// reading is one reader of a container's files, by commit or export. It may take
// long, so it has no turn: the container lives on meanwhile, and can be removed
// by force, which ends the reading.
type reading struct {
	c      *container
	cancel context.CancelCauseFunc
	cause  func() error // why its context ended
	gone   func() error // why the root file system is not to be had any more
	verb   string
	once   sync.Once
}

var errRemoved = moss.Errorf(moss.Conflict, "the container is being removed")

// read begins to read a container's files, with a context that a removal by force
// ends; the caller ends the reading. Errors: Conflict when it is being removed.
func (e *Engine) read(parent context.Context, ref, verb string) (context.Context, *reading, error) {
	c, err := e.locked(parent, ref)
	if err != nil {
		return nil, nil, err
	}
	defer c.release()
	switch rec := c.record(); rec.State {
	case moss.StateDead:
		return nil, nil, moss.Errorf(moss.Conflict, "You cannot %s container %s which is Dead", verb, rec.ID)
	case moss.StateRemoving:
		return nil, nil, moss.Errorf(moss.Conflict, "You cannot %s container %s which is being removed", verb, rec.ID)
	default:
	}
	ctx, cancel := context.WithCancelCause(parent)
	r := &reading{c: c, verb: verb, cancel: cancel, cause: func() error { return context.Cause(ctx) }, gone: func() error { return e.rootfsGone(c) }}
	c.update(func() { c.readings[r] = struct{}{} })
	return ctx, r, nil
}

func (r *reading) end() {
	r.once.Do(func() {
		r.c.update(func() { delete(r.c.readings, r) })
		r.cancel(nil)
	})
}

// failed is err in the user's words; that of a removal is the reason for whatever broke by it.
func (r *reading) failed(err error) error {
	if cause := r.cause(); cause == errRemoved { //nolint:errorlint // the value itself is the sign
		err = cause
	} else if gone := r.gone(); err != nil && gone != nil {
		err = gone // what broke only follows from it
	}
	return moss.Wrap(err, r.verb, r.c.record().Name)
}

// rootfsGone is why the root file system of a running container is not to be had
// any more, with the way out.
func (e *Engine) rootfsGone(c *container) error {
	m, ok := e.Rootfs.(MortalRootfs)
	if rec := c.record(); ok && rec.State.Alive() {
		return m.Alive(rec.Run.PID)
	}
	return nil
}

// evict ends the readings of a container that is removed by force.
func (c *container) evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.readings {
		r.cancel(errRemoved)
	}
}

// Files makes images and archives of containers' files.
type Files struct{ *Engine }

// FileService returns the service that reads containers' files.
func (e *Engine) FileService() Files { return Files{e} }

// Export is the tar of a container's whole tree. Reading fails when ctx ends, or
// the container is removed by force. Errors: Conflict when it is being removed.
func (s Files) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	ctx, r, err := s.read(ctx, ref, "export")
	if err != nil {
		return nil, err
	}
	tree, err := s.Engine.Files.Export(ctx, r.c.id)
	if err != nil {
		r.end()
		return nil, r.failed(err)
	}
	s.publish(r.c.record(), "export", time.Now())
	return &export{tree: tree, reading: r}, nil
}

// export is a tar on its way; Close ends the reading.
type export struct {
	tree    io.ReadCloser
	reading *reading
}

func (x *export) Read(p []byte) (int, error) {
	n, err := x.tree.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF itself
		err = x.reading.failed(err)
	}
	return n, err
}

func (x *export) Close() error {
	defer x.reading.end()
	return x.tree.Close()
}
