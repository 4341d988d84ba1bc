package volume

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Fill copies a directory of a root file system into a volume that is empty,
// with owners, modes, times, extended attributes, hard links, symlinks and
// special files. A volume that has files, or whose options mount something, and
// a path that is no directory are left alone. A kill at any instant leaves the
// volume empty or, after the next Open, full.
func (s *Store) Fill(ctx context.Context, name string, from moss.Mount, dir string) error {
	done, err := s.begin(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	if mounts(v) {
		return nil
	}
	if !remote(v) {
		if empty, err := isEmpty(v.Path); err != nil || !empty {
			return moss.Wrap(err, "look into the volume", name)
		}
	}
	src, err := openIn(from.Path, dir, unix.RESOLVE_IN_ROOT)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return nil
	}
	if err != nil {
		return moss.Wrap(err, "fill the volume", name)
	}
	defer func() { _ = src.Close() }() // only read
	if remote(v) {
		return s.fillRemote(ctx, v, src)
	}
	temp := s.path(name, fillNew)
	if err := errors.Join(os.RemoveAll(temp), copyTree(ctx, src, temp)); err != nil {
		return moss.Wrap(errors.Join(err, os.RemoveAll(temp)), "fill the volume", name)
	}
	if err := keepTimes(temp, s.path(name, fillTime)); err != nil {
		return moss.Wrap(errors.Join(err, os.RemoveAll(temp)), "fill the volume", name)
	}
	if err := os.Rename(temp, s.path(name, fillDir)); err != nil {
		return moss.Wrap(err, "fill the volume", name)
	}
	return moss.Wrap(s.settle(name), "fill the volume", name)
}

// keepTimes makes a file with a directory's times.
func keepTimes(dir, in string) error {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: dir, Err: err}
	}
	f, err := os.OpenFile(in, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("utimensat", utimes(int(f.Fd()), &st)), f.Close())
}

// settle finishes a fill whose copy is complete, and throws away one whose is
// not. The files move one by one: _data itself may be in use.
func (s *Store) settle(name string) error {
	if err := os.RemoveAll(s.path(name, fillNew)); err != nil {
		return err
	}
	full, data := s.path(name, fillDir), s.path(name, dataDir)
	entries, err := os.ReadDir(full)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(s.path(name, fillTime))
	}
	if err != nil {
		return err
	}
	from, err := os.Open(full)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	var meta, times unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &meta); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := unix.Lstat(s.path(name, fillTime), &times); err == nil {
		meta.Atim, meta.Mtim = times.Atim, times.Mtim
	}
	for _, e := range entries {
		err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(full, e.Name()), unix.AT_FDCWD, filepath.Join(data, e.Name()), unix.RENAME_NOREPLACE)
		if err != nil && !errors.Is(err, unix.EEXIST) { // what a container made meanwhile is newer
			return &os.LinkError{Op: "rename", Old: e.Name(), New: data, Err: err}
		}
	}
	to, err := os.Open(data)
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }() // a directory
	if err := setMeta(int(from.Fd()), int(to.Fd()), &meta); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(full), os.RemoveAll(s.path(name, fillTime)))
}

func isEmpty(dir string) (bool, error) {
	d, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer func() { _ = d.Close() }() // only read
	_, err = d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

const openTries = 128 // while someone moves what a path leads through

// openIn opens a directory below another one; the kernel sees to it that links
// and ".." stay inside.
func openIn(root, name string, resolve uint64) (*os.File, error) {
	return openBelow(root, name, unix.O_RDONLY|unix.O_DIRECTORY, resolve)
}

func openBelow(root, name string, flags int, resolve uint64) (*os.File, error) {
	r, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only looked at
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: resolve | unix.RESOLVE_NO_MAGICLINKS}
	for range openTries {
		var fd int
		if fd, err = unix.Openat2(int(r.Fd()), name, &how); err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: err}
}
