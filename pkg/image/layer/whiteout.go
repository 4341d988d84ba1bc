package layer

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/containers/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh." // what aufs kept for itself, but for:
	opaqueName     = ".wh..wh..opq"
)

// whiteout handles the names that say that something of the lower layers is
// gone. done is false where the entry is an ordinary file after all.
func (u *unpacker) whiteout(h *tar.Header, name, base string) (done bool, err error) {
	parent := path.Dir(name)
	if base != opaqueName && strings.HasPrefix(base, metaPrefix) || strings.HasPrefix(parent, metaPrefix) || strings.Contains(parent, "/"+metaPrefix) {
		return true, u.empty(h)
	}
	gone := strings.TrimPrefix(base, whiteoutPrefix)
	if gone == "" || gone == "." || gone == ".." {
		return true, moss.Errorf(moss.Invalid, "the layer has a whiteout of nothing: %q", h.Name)
	}
	if u.aufs {
		return false, nil
	}
	if err := u.empty(h); err != nil {
		return true, err
	}
	for p := parent; p != "."; p = path.Dir(p) {
		if u.tree.kindOf(p) == isHidden {
			return true, nil // all of it is gone
		}
	}
	d, _, err := u.parent(name)
	if err != nil {
		return true, err
	}
	if base == opaqueName {
		return true, u.opaque(d)
	}
	// What this layer has itself hides what is below, or is mixed with it.
	full := d.join(gone)
	switch u.tree.kindOf(full) {
	case nothing:
		return true, u.hide(d, gone)
	case isDir:
		return true, u.opaque(u.tree.dirs[full])
	case isFile, isLink, isHidden, isOther:
	}
	return true, nil
}

// hide makes overlay's whiteout.
func (u *unpacker) hide(d *dir, base string) error {
	fd, err := u.tree.use(d)
	if err != nil {
		return err
	}
	defer u.tree.release(d)
	full := d.join(base)
	if err := unix.Mknodat(fd, base, unix.S_IFCHR, 0); err != nil {
		return failed(full, err)
	}
	u.tree.set(full, isHidden)
	return nil
}

// opaque hides what lower layers have in a directory.
func (u *unpacker) opaque(d *dir) error {
	fd, err := u.tree.use(d)
	if err != nil {
		return err
	}
	defer u.tree.release(d)
	if err := unix.Fsetxattr(fd, archive.GetOverlayXattrName("opaque"), []byte{'y'}, 0); err != nil {
		return failed(d.path, err)
	}
	return nil
}
