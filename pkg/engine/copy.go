package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Copies copies files in and out of containers.
type Copies struct{ *Engine }

// CopyService returns the service that copies files in and out of containers.
func (e *Engine) CopyService() Copies { return Copies{e} }

// Stat tells of a path in a container. Errors: NotFound.
func (s Copies) Stat(ctx context.Context, ref, name string) (moss.PathStat, error) {
	ctx, l, err := s.look(ctx, ref, "look into")
	if err != nil {
		return moss.PathStat{}, err
	}
	defer l.end()
	st, err := s.Paths.Stat(ctx, l.view, name)
	return st, l.failed(err, ref, name)
}

// Pack is the tar of what a container has at a path. It is read until it is
// closed; removing the container by force ends it. Errors: NotFound.
func (s Copies) Pack(ctx context.Context, ref, name string) (moss.PathStat, io.ReadCloser, error) {
	ctx, l, err := s.look(ctx, ref, "copy from")
	if err != nil {
		return moss.PathStat{}, nil, err
	}
	st, tree, err := s.Paths.Pack(ctx, l.view, name)
	if err != nil {
		l.end()
		return st, nil, l.failed(err, ref, name)
	}
	s.publish(l.c.record(), "archive-path", time.Now())
	return st, &parcel{tree: tree, look: l}, nil
}

// parcel is a tar on its way; Close ends the look.
type parcel struct {
	tree io.ReadCloser
	look *look
}

func (p *parcel) Read(b []byte) (int, error) {
	n, err := p.tree.Read(b)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return io.EOF itself
		err = p.look.reading.failed(err)
	}
	return n, err
}

func (p *parcel) Close() error {
	defer p.look.end()
	return p.tree.Close()
}

// Unpack makes the files of a tar below a directory of a container; asUser gives
// them to its user. It returns when ctx ends or the container is removed by
// force, though r may still be read from then. Errors: NotFound, Invalid.
func (s Copies) Unpack(ctx context.Context, ref, name string, r io.Reader, keepKinds, asUser bool) error {
	ctx, l, err := s.look(ctx, ref, "copy into")
	if err != nil {
		return err
	}
	defer l.end()
	o := moss.UnpackOptions{KeepKinds: keepKinds}
	if asUser {
		o.Owner = l.c.record().Config.User
	}
	body, done := breakable(ctx, r)
	defer done()
	if err := s.Paths.Unpack(ctx, l.view, name, body, o); err != nil {
		return l.failed(err, ref, name)
	}
	_, _ = io.CopyN(io.Discard, body, trailing) // the padding, or who sends it could find the connection reset
	s.publish(l.c.record(), "extract-to-dir", time.Now())
	return nil
}

// trailing is how much may follow the end of an archive, in bytes.
const trailing = 16 << 20

// breakable is a reader that does not wait for r when ctx has ended.
func breakable(ctx context.Context, r io.Reader) (io.Reader, func()) {
	const size = 128 << 10
	out, in := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = out.CloseWithError(ctx.Err()) }) // never fails
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{r}, make([]byte, size))
		_ = in.CloseWithError(err) // never fails
	}()
	return out, func() {
		stop()
		_ = out.Close() // never fails
	}
}

// Changes tells what a container changed in its image's files.
func (s Copies) Changes(ctx context.Context, ref string) ([]moss.Change, error) {
	ctx, r, err := s.read(ctx, ref, "diff")
	if err != nil {
		return nil, err
	}
	defer r.end()
	list, err := s.Paths.Changes(ctx, r.c.id)
	if err != nil {
		return nil, r.failed(err)
	}
	return list, nil
}

// look is a reading that goes through the container's mounts: meanwhile the root
// file system stays mounted, also when the container starts or ends.
type look struct {
	*reading
	view moss.View
	end  func() // can be called more than once
}

func (e *Engine) look(ctx context.Context, ref, verb string) (context.Context, *look, error) {
	ctx, r, err := e.read(ctx, ref, verb)
	if err != nil {
		return nil, nil, err
	}
	l := &look{reading: r}
	if l.view, err = e.beginLook(ctx, r.c); err != nil {
		r.end()
		return nil, nil, r.failed(err)
	}
	l.end = sync.OnceFunc(func() {
		e.endLook(context.WithoutCancel(ctx), r.c)
		r.end()
	})
	return ctx, l, nil
}

// beginLook mounts; the mount stays until endLook.
func (e *Engine) beginLook(ctx context.Context, c *container) (moss.View, error) {
	if err := c.acquire(ctx); err != nil {
		return moss.View{}, err
	}
	defer c.release()
	m, err := e.mountRootfs(ctx, c.record(), c.id)
	if err != nil {
		return moss.View{}, err
	}
	rec := c.record()
	v := moss.View{Container: rec.ID, Rootfs: m, ReadOnly: rec.Host.ReadonlyRootfs}
	points := rec.Mounts
	if rec.State.Alive() {
		v.PID = rec.Run.PID
	} else {
		var done func()
		points, done, err = e.mountVolumes(ctx, c, rec)
		defer done()
		if err != nil {
			done()
			return moss.View{}, errors.Join(err, e.unmount(ctx, c.id))
		}
	}
	v.Mounts = mountsOf(rec, points)
	c.update(func() { c.lookers++ })
	return v, nil
}

// endLook lets go of the mount, where nobody else needs it.
func (e *Engine) endLook(ctx context.Context, c *container) {
	_ = c.acquire(ctx) // it never ends, so this never fails
	defer c.release()
	c.update(func() { c.lookers-- })
	if c.record().State.Alive() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	if err := e.unmount(ctx, c.id); err != nil {
		e.Log.Error("a container stays mounted after a copy", "container", c.record().Name, "error", err)
		c.update(func() { c.unclean = true })
	}
}

// mountsOf are a container's mounts with the files in /etc that are its own,
// where it has run and has them.
func mountsOf(rec *moss.Container, points []moss.MountPoint) []moss.MountPoint {
	all := slices.Clone(points)
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		m := moss.MountPoint{Type: moss.MountBind, Source: filepath.Join(rec.Dir, name), Target: "/etc/" + name, ReadOnly: rec.Host.ReadonlyRootfs}
		taken := slices.ContainsFunc(rec.Mounts, func(p moss.MountPoint) bool { return path.Clean(p.Target) == m.Target })
		if info, err := os.Stat(m.Source); err == nil && info.Mode()&fs.ModeType == 0 && !taken {
			all = append(all, m)
		}
	}
	return all
}

// unmount unmounts a container's root file system, and what its volumes need,
// when the last has looked.
func (e *Engine) unmount(ctx context.Context, id moss.ContainerID) error {
	e.mu.RLock()
	c := e.containers[id]
	e.mu.RUnlock()
	if c != nil && c.isLooked() {
		return nil
	}
	err := e.Rootfs.Unmount(ctx, id)
	if c == nil {
		return err
	}
	return errors.Join(err, e.unmountVolumes(ctx, c))
}

func (c *container) isLooked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lookers > 0
}

// failed is err in docker's words.
func (l *look) failed(err error, ref, name string) error {
	switch {
	case err == nil:
		return nil
	case moss.ClassOf(err) == moss.NotFound:
		return moss.Errorf(moss.NotFound, "Could not find the file %s in container %s", name, ref)
	case moss.ClassOf(err) == moss.Invalid:
		return err
	}
	return l.reading.failed(err)
}
