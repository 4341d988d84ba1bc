package layer

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// settle waits until all that the tar has told so far is made.
func (u *unpacker) settle() error {
	if err := u.crew.wait(); err != nil {
		return err
	}
	links := u.links
	u.links = u.links[:0]
	for _, l := range links {
		if err := u.makeLink(l); err != nil {
			return err
		}
	}
	return nil
}

// link is a hard link to be made.
type link struct {
	target string
	dir    *dir
	base   string
}

const linksAtOnce = 1000

// link leaves a hard link for later: its target may still be at work.
func (u *unpacker) link(target string, d *dir, base string) error {
	name, err := clean(target)
	if err != nil {
		return err
	}
	u.links = append(u.links, link{name, d, base})
	if len(u.links) < linksAtOnce {
		return nil
	}
	return u.settle()
}

func (u *unpacker) makeLink(l link) error {
	at := strings.LastIndexByte(l.target, '/')
	u.seeking = true
	from, err := u.dir(l.target[:max(at, 0)])
	u.seeking = false
	base := l.target[at+1:]
	if err != nil {
		return err
	}
	full, name := from.join(base), l.dir.join(l.base)
	switch k := u.tree.kindOf(full); {
	case base == "", k == nothing, k == isHidden, k == isDir:
		return moss.Errorf(moss.Invalid, "%q is a hard link to %q, which is no file of this layer", name, l.target)
	}
	fromFD, err := u.tree.use(from)
	if err != nil {
		return err
	}
	defer u.tree.release(from)
	fd, err := u.tree.use(l.dir)
	if err != nil {
		return err
	}
	defer u.tree.release(l.dir)
	if err := unix.Linkat(fromFD, base, fd, l.base, 0); err != nil {
		if err == unix.ENOENT && len(u.skipped) > 0 {
			u.skip(name + ": a link to what was left out")
			return nil
		}
		return failed(name, err)
	}
	return nil
}

// replace makes way for a later entry of the same name. A directory stays where
// the entry is one, and is returned.
func (u *unpacker) replace(d *dir, base string, k kind, toDir bool) (*dir, error) {
	if k == isDir && toDir {
		if err := u.settle(); err != nil {
			return nil, err
		}
		return u.tree.dirs[d.join(base)], nil
	}
	return nil, u.remove(d, base)
}

// remove takes away what an earlier entry made, with all below it.
func (u *unpacker) remove(d *dir, base string) error {
	if err := u.settle(); err != nil {
		return err
	}
	if k := u.tree.kindOf(d.join(base)); k == isDir || k == isLink {
		clear(u.tree.alias)
	}
	return u.removeAll(d, base)
}

func (u *unpacker) removeAll(d *dir, base string) error {
	full := d.join(base)
	flags := 0
	sub := u.tree.dirs[full]
	if sub != nil {
		names, err := u.list(sub)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := u.removeAll(sub, name); err != nil {
				return err
			}
		}
		u.tree.drop(sub)
		flags = unix.AT_REMOVEDIR
	}
	fd, err := u.tree.use(d)
	if err != nil {
		return err
	}
	defer u.tree.release(d)
	if u.tree.kindOf(full) == isFile {
		if err := u.saved.keep(fd, base, full); err != nil {
			return err
		}
	}
	u.tree.forget(full)
	// A device that was left out is not there.
	if err := unix.Unlinkat(fd, base, flags); err != nil && err != unix.ENOENT {
		return failed(full, err)
	}
	return nil
}

func (u *unpacker) list(d *dir) ([]string, error) {
	fd, err := u.tree.use(d)
	if err != nil {
		return nil, err
	}
	defer u.tree.release(d)
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, failed(d.path, err)
	}
	f := os.NewFile(uintptr(own), d.path)
	names, err := f.Readdirnames(-1)
	return names, errors.Join(err, f.Close())
}

// saved keeps the contents of files that a later entry of the tar replaced: the
// tar is to be made again as it was.
type saved struct {
	dir   string
	f     *os.File
	size  int64
	spans map[string][]span
}

type span struct{ at, n int64 }

const maxSaved = 32 << 20

func (s *saved) close() {
	if s.f != nil {
		_ = s.f.Close() // has no name
	}
}

func (s *saved) keep(dirfd int, base, full string) (err error) {
	if s.f == nil {
		if s.f, err = tempFile(s.dir); err != nil {
			return err
		}
		s.spans = map[string][]span{}
	}
	fd, err := unix.Openat(dirfd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed(full, err)
	}
	f := os.NewFile(uintptr(fd), full)
	n, err := io.Copy(s.f, io.LimitReader(f, maxSaved-s.size+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	s.spans[full] = append(s.spans[full], span{s.size, n})
	if s.size += n; s.size > maxSaved {
		return moss.Errorf(moss.Invalid, "the layer replaces files of its own, of more than %d bytes: %q", maxSaved, full)
	}
	return nil
}

// restore puts saved contents where the tar had them.
func (u *unpacker) restore() error {
	if len(u.saved.spans) == 0 {
		return nil
	}
	old := u.split
	if _, err := old.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s, err := newSplit(u.saved.dir)
	if err != nil {
		return err
	}
	u.split = s
	s.files = old.files
	err = u.rewrite(old.f, s)
	return errors.Join(err, old.f.Close())
}

func (u *unpacker) rewrite(from io.Reader, to *split) error {
	dec := json.NewDecoder(from)
	for {
		var e storage.Entry
		err := dec.Decode(&e)
		if err == io.EOF { //nolint:errorlint // the end, and nothing that wraps it
			return to.w.Flush()
		}
		if err != nil {
			return err
		}
		spans := u.saved.spans[e.GetName()]
		switch {
		case e.Type == storage.SegmentType:
			err = to.segment(e.Payload)
		case len(spans) == 0:
			err = to.file(e.GetName(), e.Size, e.Payload)
		default:
			u.saved.spans[e.GetName()] = spans[1:]
			b := make([]byte, spans[0].n)
			if _, err = u.saved.f.ReadAt(b, spans[0].at); err == nil {
				err = to.segment(b)
			}
		}
		if err != nil {
			return err
		}
	}
}
