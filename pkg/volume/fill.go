package volume

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

type unixStat = syscall.Stat_t

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

// copyWidth is how many directories are copied at a time.
const copyWidth = 4

// copyBuffer is read at once; most files of images are smaller.
const copyBuffer = 128 << 10

type copier struct {
	ctx     context.Context
	wg      sync.WaitGroup
	slots   chan struct{}
	buffers sync.Pool

	mu    sync.Mutex // guards what follows
	err   error
	links map[inode][]linked // of files with several names: copied at the end
}

type inode struct{ dev, ino uint64 }

// linked is one name of a file, below the tree's top.
type linked struct{ from, to string }

// copyTree copies a directory to a path that is not there.
func copyTree(ctx context.Context, src *os.File, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	c := &copier{
		ctx: ctx, slots: make(chan struct{}, copyWidth), links: make(map[inode][]linked),
		buffers: sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }},
	}
	fd, err := unix.Dup(int(src.Fd()))
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	unix.CloseOnExec(fd)
	dst, err := os.Open(to)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	var dirs []finished
	c.wg.Add(1)
	c.dir(os.NewFile(uintptr(fd), src.Name()), dst, "", &dirs)
	c.wg.Wait()
	if c.err == nil {
		c.err = c.copyLinks(src, dst)
	}
	// Directories get their times and modes last: whoever writes into one changes them.
	for _, dir := range slices.Backward(dirs) {
		if c.err == nil {
			c.err = copyDirMeta(src, dst, dir.name)
		}
	}
	return errors.Join(c.err, dst.Close())
}

// finished is a directory whose files are there, outer ones before inner ones.
type finished struct{ name string }

func (c *copier) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *copier) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil
}

// dir copies what is in a directory. It closes both but for the top's.
func (c *copier) dir(src, dst *os.File, name string, dirs *[]finished) {
	defer c.wg.Done()
	defer func() { _ = src.Close() }() // only read
	if name != "" {
		defer func() { _ = dst.Close() }() // a directory
	}
	c.mu.Lock()
	*dirs = append(*dirs, finished{name})
	c.mu.Unlock()
	for {
		entries, err := src.ReadDir(256)
		for _, e := range entries {
			if c.failed() {
				return
			}
			if err := c.ctx.Err(); err != nil {
				c.fail(err)
				return
			}
			if err := c.entry(src, dst, name, e, dirs); err != nil {
				c.fail(err)
				return
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *copier) entry(src, dst *os.File, in string, e fs.DirEntry, dirs *[]finished) error {
	name := filepath.Join(in, e.Name())
	if !e.IsDir() {
		return c.file(src, dst, in, e.Name(), false)
	}
	from, err := openat(src, e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	err = unix.Mkdirat(int(dst.Fd()), e.Name(), 0o700)
	if err != nil {
		return errors.Join(&os.PathError{Op: "mkdir", Path: name, Err: err}, from.Close())
	}
	to, err := openat(dst, e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return errors.Join(err, from.Close())
	}
	c.wg.Add(1)
	select {
	case c.slots <- struct{}{}:
		go func() {
			defer func() { <-c.slots }()
			c.dir(from, to, name, dirs)
		}()
	default:
		c.dir(from, to, name, dirs)
	}
	return nil
}

func openat(dir *os.File, name string, flags int, mode uint32) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC, mode)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// file copies one that is no directory. One with several names waits for the end, unless last.
func (c *copier) file(src, dst *os.File, in, name string, last bool) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Nlink > 1 && !last {
		full := filepath.Join(in, name)
		c.mu.Lock()
		defer c.mu.Unlock()
		key := inode{st.Dev, st.Ino}
		c.links[key] = append(c.links[key], linked{full, full})
		return nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.regular(src, dst, name, &st)
	case unix.S_IFLNK:
		return symlink(src, dst, name, &st)
	default:
		return special(src, dst, name, &st)
	}
}

func (c *copier) regular(src, dst *os.File, name string, st *unix.Stat_t) (err error) {
	from, err := unix.Openat(int(src.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { _ = unix.Close(from) }() // only read
	to, err := unix.Openat(int(dst.Fd()), name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	defer func() { err = errors.Join(err, unix.Close(to)) }()
	if st.Size > 0 {
		if err := c.content(from, to, st.Size); err != nil {
			return &os.PathError{Op: "copy", Path: name, Err: err}
		}
	}
	return setMeta(from, to, st)
}

// content copies a file's bytes; small ones by one read and one write.
func (c *copier) content(from, to int, size int64) error {
	if size > copyBuffer {
		for {
			n, err := unix.CopyFileRange(from, nil, to, nil, 1<<30, 0)
			if err != nil {
				break // another file system; what is copied so far stays
			}
			if n == 0 {
				return nil
			}
		}
	}
	b := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(b)
	for {
		n, err := unix.Read(from, *b)
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for out := (*b)[:n]; len(out) > 0; {
			w, err := unix.Write(to, out)
			if err != nil {
				return err
			}
			out = out[w:]
		}
		if int64(n) == size {
			return nil
		}
	}
}

func symlink(src, dst *os.File, name string, st *unix.Stat_t) error {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(src.Fd()), name, b)
	if err == nil {
		err = unix.Symlinkat(string(b[:n]), int(dst.Fd()), name)
	}
	if err == nil {
		err = byName(dst, name, st)
	}
	if err != nil {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

// special copies a device, a pipe or a socket.
func special(_, dst *os.File, name string, st *unix.Stat_t) error {
	err := unix.Mknodat(int(dst.Fd()), name, st.Mode, int(st.Rdev))
	if err == nil {
		err = byName(dst, name, st)
	}
	if err == nil {
		err = unix.Fchmodat(int(dst.Fd()), name, st.Mode&0o7777, 0)
	}
	if err != nil {
		return &os.PathError{Op: "mknod", Path: name, Err: err}
	}
	return nil
}

// byName gives owner and times to what cannot be opened.
func byName(dst *os.File, name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(int(dst.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(dst.Fd()), name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *copier) copyLinks(src, dst *os.File) error {
	for _, names := range c.links {
		in := filepath.Dir(names[0].from)
		from, err := openat(src, in, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		to, err := openat(dst, in, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return errors.Join(err, from.Close())
		}
		err = errors.Join(c.file(from, to, in, filepath.Base(names[0].from), true), from.Close(), to.Close())
		if err != nil {
			return err
		}
		for _, n := range names[1:] {
			if err := unix.Linkat(int(dst.Fd()), names[0].to, int(dst.Fd()), n.to, 0); err != nil {
				return &os.LinkError{Op: "link", Old: names[0].to, New: n.to, Err: err}
			}
		}
	}
	return nil
}

func copyDirMeta(src, dst *os.File, name string) error {
	if name == "" {
		name = "."
	}
	from, err := openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	to, err := openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(copyMeta(int(from.Fd()), int(to.Fd())), to.Close())
}

func copyMeta(from, to int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	return setMeta(from, to, &st)
}

// setMeta gives owner, attributes, mode and times, in the order in which none
// takes another away.
func setMeta(from, to int, st *unix.Stat_t) error {
	if st.Uid != 0 || st.Gid != 0 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return os.NewSyscallError("fchown", err)
		}
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	return os.NewSyscallError("utimensat", utimes(to, st))
}

func utimes(fd int, st *unix.Stat_t) error {
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func copyXattrs(from, to int) error {
	var list [4096]byte
	n, err := unix.Flistxattr(from, list[:])
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "security.selinux" || strings.HasPrefix(name, "trusted.") {
			continue // the volume's own, or not ours to give
		}
		value := make([]byte, 64<<10)
		size, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			return os.NewSyscallError("fgetxattr "+name, err)
		}
		if err := unix.Fsetxattr(to, name, value[:size], 0); err != nil {
			return os.NewSyscallError("fsetxattr "+name, err)
		}
	}
	return nil
}
