package volume

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

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
