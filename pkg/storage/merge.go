package storage

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What layers say by the names of files where the file system has no other way;
// also how a layer's tar says it.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = whiteoutPrefix + whiteoutPrefix + ".opq"
)

// opaqueXattrs mark a directory that shows nothing of the layers below it: the
// kernel's in a user namespace, the kernel's, and fuse-overlayfs's.
var opaqueXattrs = []string{"user.overlay.opaque", "trusted.overlay.opaque", "user.fuseoverlayfs.opaque"}

// entry is a name in a directory of one or more layers.
type entry struct {
	name string
	st   unix.Stat_t
	in   []int // the directories that have it, top first; more than one where they merge
	gone bool  // it is a whiteout
	done bool  // nothing of it comes from lower layers
}

func (e *entry) isDir() bool { return e.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// merge reads one directory of several layers, the top one first, as overlay
// shows it, and says whether the top one is opaque. Reading the layers
// themselves needs no mount and no lock; it is what the container sees, too,
// since neither redirects nor metacopy are allowed. Where marks is set, files
// may say what the file system cannot. Whiteouts are in the list.
func merge(dirs []*os.File, marks bool) (list []*entry, opaque bool, err error) {
	all := map[string]*entry{}
	for i, d := range dirs {
		names, err := d.Readdirnames(-1)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a directory that was deleted is empty
			return nil, false, err
		}
		shut := isOpaque(d)
		var hidden []string
		for _, name := range names {
			if marks && strings.HasPrefix(name, whiteoutPrefix) {
				shut = shut || name == whiteoutOpaque
				hidden = append(hidden, strings.TrimPrefix(name, whiteoutPrefix))
				continue
			}
			if err := mergeName(all, i, d, name); err != nil {
				return nil, false, err
			}
		}
		for _, name := range hidden {
			if e := all[name]; e != nil {
				e.done = true
			} else if !shut { // else it hides nothing that shows
				all[name] = &entry{name: name, in: []int{i}, gone: true, done: true}
			}
		}
		opaque = opaque || i == 0 && shut
		if shut {
			break
		}
	}
	for _, e := range all {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(a.name, b.name) })
	return list, opaque, nil
}

func mergeName(all map[string]*entry, i int, d *os.File, name string) error {
	e := all[name]
	if e != nil && e.done {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); errors.Is(err, unix.ENOENT) {
		return nil
	} else if err != nil {
		return &os.PathError{Op: "stat", Path: d.Name() + "/" + name, Err: err}
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case e == nil:
		all[name] = &entry{name: name, st: st, in: []int{i}, done: !dir, gone: isWhiteout(&st)}
	case dir:
		e.in = append(e.in, i)
	default: // it ends what is below
		e.done = true
	}
	return nil
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isOpaque(d *os.File) bool {
	var v [2]byte
	for _, key := range opaqueXattrs {
		if n, err := unix.Fgetxattr(int(d.Fd()), key, v[:]); err == nil && n == 1 && v[0] == 'y' {
			return true
		}
	}
	return false
}

// openDir opens a directory by its name alone: no link is followed, whatever
// the container puts there meanwhile.
func openDir(parent *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: parent.Name() + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), parent.Name()+"/"+name), nil
}

// vanished says that err means that another took its place, or nothing.
func vanished(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}
