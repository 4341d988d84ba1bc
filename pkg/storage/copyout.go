package storage

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Stat tells of a path in a container. Errors: NotFound.
func (s *Storage) Stat(ctx context.Context, w moss.View, name string) (moss.PathStat, error) {
	v, err := openView(ctx, w)
	if err != nil {
		return moss.PathStat{}, moss.Wrap(err, "look into", w.Container.Short())
	}
	defer v.Close()
	st, err := v.stat(rooted(name))
	return st, missing(err)
}

// Pack is the tar of what a container has at a path, named by the path's last
// element, and what is known of it. Closing it returns when nothing is read any
// more. Errors: NotFound.
func (s *Storage) Pack(ctx context.Context, w moss.View, name string) (moss.PathStat, io.ReadCloser, error) {
	const op = "copy from"
	v, err := openView(ctx, w)
	if err != nil {
		return moss.PathStat{}, nil, moss.Wrap(err, op, w.Container.Short())
	}
	name = rooted(name)
	st, err := v.stat(name)
	if err != nil {
		v.Close()
		return st, nil, missing(err)
	}
	ids := s.shiftOf(w.Container)
	r, pipe := io.Pipe()
	out := &parcel{untilDone: untilDone{PipeReader: r, ctx: ctx}, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = pipe.CloseWithError(ctx.Err()) }) // never fails
	go func() {
		defer close(out.done)
		defer v.Close()
		defer stop()
		w := bufio.NewWriterSize(pipe, tarBuffer)
		k := &packer{ctx: ctx, tw: tar.NewWriter(w), buf: make([]byte, copyBuffer), links: map[inode]string{}, shift: ids}
		err := k.path(v, name, st)
		if err == nil {
			err = errors.Join(k.tw.Close(), w.Flush())
		}
		_ = pipe.CloseWithError(err) // never fails
	}()
	return st, out, nil
}

// parcel is a tar on its way.
type parcel struct {
	untilDone
	done chan struct{}
}

func (p *parcel) Close() error {
	err := p.PipeReader.Close()
	<-p.done // the writer fails at its next write
	return err
}

// path writes what is at a path of a view, as docker names it: by the last
// element, which is "." where the path ends so, and nothing for the root.
func (p *packer) path(v *view, name string, st moss.PathStat) error {
	if !st.Mode.IsDir() {
		dir, base := path.Split(name)
		d, err := v.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }() // only read
		e := &entry{name: base}
		if err := unix.Fstatat(int(d.Fd()), base, &e.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: name, Err: err}
		}
		if e.isDir() || st.Mode.IsRegular() != (e.st.Mode&unix.S_IFMT == unix.S_IFREG) {
			return moss.Errorf(moss.Conflict, "%s was replaced meanwhile", name)
		}
		return p.file(base, e, d)
	}
	d, err := v.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only read
	var self unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &self); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	h := p.header(strings.TrimSuffix(st.Name, "/"), &self)
	if err := xattrs(d, h); err != nil {
		return err
	}
	p.pending = append(p.pending, h)
	if err := p.flush(); err != nil {
		return err
	}
	p.prefix = h.Name
	return p.tree("", []*os.File{d}, nil)
}

// rooted makes a path absolute. What it ends with, a slash or a dot, has a meaning and stays.
func rooted(name string) string {
	clean := path.Join("/", name)
	switch {
	case clean == "/" || name == "":
		if path.Base(name) == "." && name != "" {
			return "/."
		}
	case path.Base(name) == "." && !strings.HasSuffix(name, "/"):
		return clean + "/."
	case strings.HasSuffix(name, "/"):
		return clean + "/"
	}
	return clean
}

// missing gives what is not there its class.
func missing(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return moss.Errorf(moss.NotFound, "%w", err)
	}
	return err
}
