package layer

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxSparse bounds the size of a file with holes: they are read as zeros.
const maxSparse = 64 << 30

// root prepares the directory itself. What is in a layer's "./" is not used, as
// in docker.
func (u *unpacker) root() error {
	umask, err := umask()
	if err != nil {
		return err
	}
	u.tree.umask = umask
	return unix.Fchmod(u.tree.root.fd, rootMode)
}

const rootMode = 0o755

// mkdir makes a directory that the tar has not told of.
func (u *unpacker) mkdir(d *dir, base string, mode uint32) (*dir, error) {
	return u.makeDir(d, base, &meta{mode: mode})
}

// makeDir makes a directory. What making files in it would change waits for the
// end.
func (u *unpacker) makeDir(d *dir, base string, m *meta) (*dir, error) {
	full := d.join(base)
	if len(u.tree.dirs) >= maxDirs {
		return nil, moss.Errorf(moss.Invalid, "the layer has more than %d directories", maxDirs)
	}
	if len(full) >= unix.PathMax {
		return nil, moss.Errorf(moss.Invalid, "the layer has a name of more than %d bytes", unix.PathMax-1)
	}
	fd, err := u.tree.use(d)
	if err != nil {
		return nil, err
	}
	defer u.tree.release(d)
	if err := unix.Mkdirat(fd, base, m.mode&0o777); err != nil {
		return nil, failed(full, err)
	}
	u.tree.set(full, isDir)
	sub := &dir{up: d, path: strings.Clone(full), fd: -1}
	u.tree.dirs[sub.path] = sub
	if err := u.own(fd, sub, base, m, d.setgid); err != nil {
		return nil, err
	}
	return sub, nil
}

// own gives a directory its owner and mode.
func (u *unpacker) own(fd int, sub *dir, base string, m *meta, force bool) error {
	if force || m.uid != 0 || m.gid != 0 {
		if err := unix.Fchownat(fd, base, int(m.uid), int(m.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return u.ids.refused(sub.path, m, err)
		}
	}
	if force || m.mode&0o7000 != 0 || m.mode&u.tree.umask != 0 {
		if err := unix.Fchmodat(fd, base, m.mode, 0); err != nil {
			return failed(sub.path, err)
		}
	}
	sub.setgid = m.mode&unix.S_ISGID != 0
	if !m.mtime.IsZero() {
		sub.meta = m
	}
	return nil
}

// merge gives a directory that is there already what a later entry says.
func (u *unpacker) merge(sub *dir, m *meta) error {
	fd, err := u.tree.use(sub.up)
	if err != nil {
		return err
	}
	defer u.tree.release(sub.up)
	return u.own(fd, sub, path.Base(sub.path), m, true)
}

// finishDirs sets the times and attributes of directories, which making files
// in them would have changed, or which would have changed the files.
func (u *unpacker) finishDirs() error {
	for _, d := range u.tree.dirs {
		if d.meta == nil {
			continue
		}
		for _, x := range d.meta.xattrs {
			fd, err := u.tree.use(d)
			if err != nil {
				return err
			}
			err = unix.Fsetxattr(fd, x.name, []byte(x.value), 0)
			u.tree.release(d)
			if err := u.xattrError(d.path, x, err); err != nil {
				return err
			}
		}
		ts := times(d.meta)
		if err := unix.UtimesNanoAt(u.tree.root.fd, d.path, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return failed(d.path, err)
		}
	}
	return nil
}

// xattrError forgives what a user namespace or a file system does not do.
func (u *unpacker) xattrError(name string, x xattr, err error) error {
	is := func(errnos ...error) bool {
		return slices.ContainsFunc(errnos, func(e error) bool { return errors.Is(err, e) })
	}
	switch {
	case err == nil:
	case is(unix.ENOTSUP, unix.EPERM):
		u.skip(name + ": the attribute " + x.name + ": " + err.Error())
	case is(unix.ERANGE, unix.EINVAL, unix.E2BIG, unix.ENODATA):
		return moss.Errorf(moss.Invalid, "the layer has an attribute that cannot be: %s of %q: %w", x.name, name, err)
	default:
		return failed(name+": attribute "+x.name, err)
	}
	return nil
}

func (u *unpacker) symlink(d *dir, base, target string, m *meta) error {
	fd, err := u.tree.use(d)
	if err != nil {
		return err
	}
	defer u.tree.release(d)
	full := d.join(base)
	if err := unix.Symlinkat(target, fd, base); err != nil {
		return failed(full, err)
	}
	return u.dressAt(fd, d, base, m)
}

func (u *unpacker) fifo(d *dir, base string, m *meta) error {
	fd, err := u.tree.use(d)
	if err != nil {
		return err
	}
	defer u.tree.release(d)
	if err := unix.Mknodat(fd, base, unix.S_IFIFO|m.mode&0o777, 0); err != nil {
		return failed(d.join(base), err)
	}
	if err := u.dressAt(fd, d, base, m); err != nil {
		return err
	}
	// Mode after owner, which takes the special bits away; times stay.
	if err := unix.Fchmodat(fd, base, m.mode, 0); err != nil {
		return failed(d.join(base), err)
	}
	return nil
}

// dressAt sets owner, attributes and times of what cannot be opened.
func (u *unpacker) dressAt(fd int, d *dir, base string, m *meta) error {
	full := d.join(base)
	if d.setgid || m.uid != 0 || m.gid != 0 {
		if err := unix.Fchownat(fd, base, int(m.uid), int(m.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return u.ids.refused(full, m, err)
		}
	}
	for _, x := range m.xattrs {
		err := unix.Lsetxattr(procFD(fd)+"/"+base, x.name, []byte(x.value), 0)
		if err := u.xattrError(full, x, err); err != nil {
			return err
		}
	}
	ts := times(m)
	if err := unix.UtimesNanoAt(fd, base, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return failed(full, err)
	}
	return nil
}

func create(dirfd int, base string, m *meta) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, m.mode&0o777)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func times(m *meta) [2]unix.Timespec {
	return [2]unix.Timespec{timespec(m.atime), timespec(m.mtime)}
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// setTimes sets the times of an open file: the package has no such call.
func setTimes(fd int, m *meta) error {
	ts := times(m)
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
