package storage

import (
	"context"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Changes tells what a container changed in its image's files, in the order of
// the paths. It works while the container runs, without mounting anything.
func (s *Storage) Changes(ctx context.Context, id moss.ContainerID) ([]moss.Change, error) {
	const op = "read the changes of"
	p, err := s.place(id)
	if err != nil {
		return nil, classified(err, op, id)
	}
	lowers, whole := p.lowers, p.old != ""
	if whole {
		lowers = []string{p.old}
	}
	dirs := make([]*os.File, 0, 1+len(lowers))
	defer func() {
		for _, d := range dirs {
			_ = d.Close() // only read
		}
	}()
	for _, l := range append([]string{p.top}, lowers...) {
		d, err := os.Open(l)
		if err != nil {
			return nil, classified(err, op, id)
		}
		dirs = append(dirs, d)
	}
	k := &comparer{ctx: ctx, marks: s.choice.mountProgram != "", whole: whole}
	if _, _, err = k.dir("/", dirs[0], dirs[1:]); err != nil {
		return nil, classified(err, op, id)
	}
	return k.found, nil
}

// comparer finds what a container changed.
type comparer struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	marks bool            // see merge
	whole bool            // the upper tree has all files, not the changed ones alone
	found []moss.Change
}

func (k *comparer) add(name string, kind moss.ChangeKind) {
	k.found = append(k.found, moss.Change{Path: name, Kind: kind})
}

// dir compares a directory with the layers below it, and says whether something
// in it changed, and whether the runtime mounted on something that it made there.
func (k *comparer) dir(name string, upper *os.File, lowers []*os.File) (changed, stubs bool, err error) {
	if err := k.ctx.Err(); err != nil {
		return false, false, err
	}
	list, opaque, err := merge([]*os.File{upper}, k.marks)
	if err != nil {
		return false, false, err
	}
	below, _, err := merge(lowers, k.marks)
	if err != nil {
		return false, false, err
	}
	before := make(map[string]*entry, len(below))
	for _, b := range below {
		if !b.gone {
			before[b.name] = b
		}
	}
	start := len(k.found)
	for _, e := range list {
		old := before[e.name]
		delete(before, e.name)
		stub, err := k.entry(path.Join(name, e.name), e, old, upper, lowers)
		if err != nil {
			return false, false, err
		}
		stubs = stubs || stub
	}
	if opaque || k.whole {
		for _, n := range slices.Sorted(maps.Keys(before)) {
			k.add(path.Join(name, n), moss.Deleted)
		}
	}
	return len(k.found) > start, stubs, nil
}

// entry compares one name; old is what the image has there, nil for nothing.
func (k *comparer) entry(name string, e, old *entry, upper *os.File, lowers []*os.File) (stub bool, err error) {
	switch {
	case e.gone && old == nil:
		return false, nil
	case e.gone:
		k.add(name, moss.Deleted)
		return false, nil
	case e.isDir():
		return k.sub(name, e, old, upper, lowers)
	case old == nil && stubs[name[1:]] && e.st.Mode&unix.S_IFMT == unix.S_IFREG && e.st.Size == 0:
		return true, nil
	case old == nil:
		k.add(name, moss.Added)
	case !k.whole || !same(upper, lowers[old.in[0]], e):
		k.add(name, moss.Modified)
	}
	return false, nil
}

// sub compares a directory and what is in it. It counts as changed where
// something in it is, as with docker.
func (k *comparer) sub(name string, e, old *entry, upper *os.File, lowers []*os.File) (stub bool, err error) {
	d, err := openDir(upper, e.name)
	if vanished(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = d.Close() }() // only read
	var under []*os.File
	defer func() {
		for _, u := range under {
			_ = u.Close() // only read
		}
	}()
	if old != nil && old.isDir() {
		for _, i := range old.in {
			u, err := openDir(lowers[i], e.name)
			if err != nil {
				return false, err
			}
			under = append(under, u)
		}
	}
	at := len(k.found)
	k.found = append(k.found, moss.Change{Path: name, Kind: moss.Modified}) // its place
	changed, inside, err := k.dir(name, d, under)
	if err != nil {
		return false, err
	}
	switch {
	case old == nil && !changed && (stubs[name[1:]] || inside):
		stub = true
	case old == nil:
		k.found[at].Kind = moss.Added
		return false, nil
	case changed, !old.isDir(), touched(e, old, inside), !sameXattrsOf(d, under[0]):
		return false, nil
	}
	k.found = k.found[:at]
	return stub, nil
}

// touched says whether a directory's own properties changed. Its time does not
// count where the runtime made something in it.
func touched(e, old *entry, stubs bool) bool {
	a, b := e.st, old.st
	return a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim && !stubs
}

func sameXattrsOf(a, b *os.File) bool { return sameXattrs(a, b, ".", unix.O_DIRECTORY) }
