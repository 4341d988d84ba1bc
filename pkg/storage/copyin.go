package storage

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Unpack makes the files of a tar, compressed or not, below a directory of a
// container. What it made before an error stays. Errors: NotFound where there
// is no such directory, Invalid where it is none or may not be written to.
func (s *Storage) Unpack(ctx context.Context, w moss.View, name string, r io.Reader, o moss.UnpackOptions) error {
	const op = "copy into"
	v, err := openView(ctx, w)
	if err != nil {
		return moss.Wrap(err, op, w.Container.Short())
	}
	defer v.Close()
	u := &unpacker{ctx: ctx, v: v, at: path.Join("/", name), keepKinds: o.KeepKinds, shift: s.shiftOf(w.Container), buf: make([]byte, copyBuffer), log: s.log}
	if err := v.writable(rooted(name)); err != nil {
		return missing(err)
	}
	if o.Owner != "" {
		if u.owner, err = v.lookUp(o.Owner); err != nil {
			return err
		}
	}
	plain, free, err := decompress(r)
	if err != nil {
		return err
	}
	defer free()
	err = u.run(tar.NewReader(plain))
	u.parent.close()
	if e := ctx.Err(); e != nil {
		err = e // for the reason of whatever broke by it
	}
	return err
}

// writable says whether a path is a directory that can be written to, in docker's words.
func (v *view) writable(name string) error {
	f, err := v.open(name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only looked at
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return moss.Errorf(moss.Invalid, "extraction point is not a directory")
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: name, Err: err}
	}
	if fs.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	if mountOf(f) != mountOf(v.root) {
		return moss.Errorf(moss.Invalid, "mounted volume is marked read-only")
	}
	return moss.Errorf(moss.Invalid, "container rootfs is marked read-only")
}

// mountOf is the id of the mount that a file is on.
func mountOf(f *os.File) uint64 {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return 0
	}
	return st.Mnt_id
}

// unpacker makes the files of a tar in a tree that others change meanwhile,
// perhaps with bad intent. The directory of each is found by the kernel within
// the container's root, then it is made there by its single name, which no call
// follows where it is a link.
type unpacker struct {
	ctx       context.Context //nolint:containedctx // it lives as long as one call
	v         *view
	at        string // where the tar is unpacked, absolute
	keepKinds bool
	owner     *owner // of all files; nil leaves it to the tar
	shift     shift
	buf       []byte
	log       logger

	parent  parent    // of the entry before
	dirs    []stamped // whose times are set at the end
	skipped []string
}

type logger interface {
	Debug(msg string, args ...any)
}

// parent is the directory that the last entry was in.
type parent struct {
	name string
	f    *os.File
}

func (p *parent) close() {
	if p.f != nil {
		_ = p.f.Close() // only looked at
		p.f = nil
	}
}

type stamped struct {
	name    string // absolute
	at, mod time.Time
}

func (u *unpacker) run(t *tar.Reader) error {
	for {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return badTar(err)
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
	for _, d := range slices.Backward(u.dirs) {
		if err := u.stamp(d); err != nil {
			return err
		}
	}
	if len(u.skipped) > 0 {
		return moss.Errorf(moss.Forbidden, "all is copied but what a user namespace cannot make, device nodes: %s", strings.Join(u.skipped, ", "))
	}
	return nil
}

// badTar gives errors in the tar their class.
func badTar(err error) error {
	for _, bad := range []error{io.ErrUnexpectedEOF, tar.ErrHeader, tar.ErrFieldTooLong, tar.ErrInsecurePath} {
		if errors.Is(err, bad) {
			return moss.Errorf(moss.Invalid, "the archive is damaged: %w", err)
		}
	}
	return err
}

// entry makes one file.
func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := u.inside(h.Name)
	if err != nil || name == u.at {
		return err // the directory itself stays as it is
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		u.skip(name)
		return nil
	}
	d, err := u.enter(path.Dir(name))
	if err != nil {
		return err
	}
	err = u.put(d, path.Base(name), name, h, body)
	if err != nil && !errors.Is(err, u.ctx.Err()) {
		if _, ours := errors.AsType[*moss.Error](err); !ours {
			err = moss.Wrap(err, "make", name)
		}
	}
	return err
}

func (u *unpacker) skip(name string) {
	const most = 10
	switch {
	case len(u.skipped) < most:
		u.skipped = append(u.skipped, name)
	case len(u.skipped) == most:
		u.skipped = append(u.skipped, "…")
	}
}

// inside is the path in the container that a name in the tar means.
func (u *unpacker) inside(name string) (string, error) {
	clean := path.Clean(strings.TrimLeft(name, "/"))
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", moss.Errorf(moss.Invalid, "the archive's %q is outside of %q", name, u.at)
	}
	return path.Join(u.at, clean), nil
}

// enter opens a directory, made where it is missing. One tar's files are mostly
// in the directory of the file before.
func (u *unpacker) enter(name string) (int, error) {
	if u.parent.f == nil || u.parent.name != name {
		u.parent.close()
		d, err := u.v.makeDirs(name)
		if err != nil {
			return -1, err
		}
		u.parent = parent{name: name, f: d}
	}
	return int(u.parent.f.Fd()), nil
}

// put makes room for an entry in d, and makes it.
func (u *unpacker) put(d int, base, name string, h *tar.Header, body io.Reader) error {
	const tries = 8 // against one who makes what is removed here
	var err error
	for range tries {
		var merge bool
		if merge, err = u.clear(d, base, name, h.Typeflag == tar.TypeDir); err != nil {
			return err
		}
		if err = u.make(d, base, name, h, body, merge); !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return err
}

// clear takes away what has the entry's name, unless both are directories.
func (u *unpacker) clear(d int, base, name string, dir bool) (merge bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(d, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case isDir && dir:
		return true, nil
	case u.keepKinds && isDir:
		return false, moss.Errorf(moss.Invalid, "cannot overwrite directory %q with non-directory %q", name, u.at)
	case u.keepKinds && dir:
		return false, moss.Errorf(moss.Invalid, "cannot overwrite non-directory %q with directory %q", name, u.at)
	}
	return false, removeAll(d, base, 0)
}

func (u *unpacker) make(d int, base, name string, h *tar.Header, body io.Reader, merge bool) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(d, base, name, h, merge)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(d, base, h, body)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, d, base); err != nil {
			return err
		}
		if err := u.chown(d, base, h, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		return touch(d, base, times(h))
	case tar.TypeLink:
		return u.link(d, base, h)
	case tar.TypeFifo:
		return u.fifo(d, base, h)
	}
	return moss.Errorf(moss.Invalid, "the archive has an entry of the unknown type %q: %q", h.Typeflag, h.Name)
}
