package storage

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	copyBuffer = 128 << 10
	tarBuffer  = 64 << 10
)

// place is where a container's files are on disk.
type place struct {
	top    string   // what the container writes to
	lowers []string // the image's layers, the top one first; none where top has all
	old    string   // the whole image where top is the whole tree, "" for none
}

// place finds them. They are read without mounting anything and without any
// lock, for however long the reader takes.
func (s *Storage) place(id moss.ContainerID) (place, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if b, ok := s.volatile.get(id); ok {
		return s.volatilePlace(id, b)
	}
	c, err := s.store.Container(string(id))
	if err != nil {
		return place{}, err
	}
	if s.choice.driver == driverVFS {
		l, err := s.store.Layer(c.LayerID)
		if err != nil {
			return place{}, err
		}
		dir := filepath.Join(s.store.GraphRoot(), driverVFS, "dir")
		p := place{top: filepath.Join(dir, l.ID)}
		if l.Parent != "" {
			p.old = filepath.Join(dir, l.Parent)
		}
		return p, nil
	}
	d, err := s.store.GraphDriver()
	if err != nil {
		return place{}, err
	}
	m, err := d.Metadata(c.LayerID)
	if err != nil {
		return place{}, err
	}
	p := place{top: m["UpperDir"]}
	if l := m["LowerDir"]; l != "" {
		p.lowers = strings.Split(l, ":")
	}
	if len(c.UIDMap) > 0 {
		p.lowers = withMapped(p.lowers)
	}
	return p, nil
}

// volatilePlace is place for a layer that the store does not know.
func (s *Storage) volatilePlace(id moss.ContainerID, b base) (place, error) {
	d, err := s.store.GraphDriver()
	if err != nil {
		return place{}, err
	}
	m, err := d.Metadata(b.top)
	if err != nil {
		return place{}, err
	}
	p := place{top: s.volatile.dir(id, "diff"), lowers: []string{m["UpperDir"]}}
	if l := m["LowerDir"]; l != "" {
		p.lowers = append(p.lowers, strings.Split(l, ":")...)
	}
	return p, nil
}

// Diff is the layer tar of what a container changed. Whiteouts are written as
// OCI layers have them. Sockets, and what the runtime only mounted on, are left out.
func (s *Storage) Diff(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	const op = "read the changes of"
	p, err := s.place(id)
	if err != nil {
		return nil, classified(err, op, id)
	}
	return s.pack(ctx, op, id, p, func(k *packer) error {
		k.diff = true
		for _, l := range p.lowers {
			r, err := os.OpenRoot(l)
			if err != nil {
				return err
			}
			defer func() { _ = r.Close() }() // only read
			k.lowers = append(k.lowers, r)
		}
		top, err := os.Open(p.top)
		if err != nil {
			return err
		}
		defer func() { _ = top.Close() }() // only read
		if p.old == "" {
			return k.tree("", []*os.File{top}, nil)
		}
		old, err := os.Open(p.old)
		if err != nil {
			return err
		}
		defer func() { _ = old.Close() }() // only read
		return k.tree("", []*os.File{top}, old)
	})
}

// Export is the tar of a container's whole tree, without what is mounted in it.
func (s *Storage) Export(ctx context.Context, id moss.ContainerID) (io.ReadCloser, error) {
	const op = "export"
	p, err := s.place(id)
	if err != nil {
		return nil, classified(err, op, id)
	}
	return s.pack(ctx, op, id, p, func(k *packer) error {
		dirs := make([]*os.File, 0, 1+len(p.lowers))
		defer func() {
			for _, d := range dirs {
				_ = d.Close() // only read
			}
		}()
		for _, l := range append([]string{p.top}, p.lowers...) {
			d, err := os.Open(l)
			if err != nil {
				return err
			}
			dirs = append(dirs, d)
		}
		return k.tree("", dirs, nil)
	})
}

// pack makes the tar in a goroutine of its own, which ends with ctx, or when
// the reader is closed.
func (s *Storage) pack(ctx context.Context, op string, id moss.ContainerID, p place, write func(*packer) error) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, moss.Wrap(err, op, id.Short())
	}
	ids := s.shiftOf(id)
	before, err := os.Stat(p.top)
	if err != nil {
		return nil, classified(err, op, id)
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = w.CloseWithError(moss.Wrap(ctx.Err(), op, id.Short())) }) // never fails
	go func() {
		defer stop()
		out := bufio.NewWriterSize(w, tarBuffer)
		k := &packer{
			ctx: ctx, tw: tar.NewWriter(out), buf: make([]byte, copyBuffer), links: map[inode]string{},
			marks: s.choice.mountProgram != "", shift: ids,
		}
		err := write(k)
		if err == nil {
			// Files that are gone are left out; of a container that is gone that would be all.
			after, statErr := os.Stat(p.top)
			if statErr != nil || !os.SameFile(before, after) {
				err = moss.Errorf(moss.Conflict, "it was removed meanwhile")
			}
		}
		if err == nil {
			err = errors.Join(k.tw.Close(), out.Flush())
		}
		_ = w.CloseWithError(classified(err, op, id)) // never fails
	}()
	return &untilDone{PipeReader: r, ctx: ctx}, nil
}

// untilDone gives nothing more once its context has ended.
type untilDone struct {
	*io.PipeReader
	ctx context.Context //nolint:containedctx // it lives as long as one call
}

func (u *untilDone) Read(b []byte) (int, error) {
	if u.ctx.Err() != nil {
		_ = u.PipeReader.CloseWithError(io.ErrClosedPipe) // never fails
		return 0, u.ctx.Err()
	}
	return u.PipeReader.Read(b)
}
