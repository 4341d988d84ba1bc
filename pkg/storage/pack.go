package storage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// packer writes trees as tar.
type packer struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	tw    *tar.Writer
	buf   []byte
	links map[inode]string // first names of files that have several
	shift shift            // of owners
	// prefix comes before all names.
	prefix string
	// marks: see merge.
	marks bool
	// diff: what was deleted is written too, and what the runtime only mounts on is not.
	diff bool
	// lowers are the layers below, where diff is set and layers are apart on disk.
	lowers []*os.Root
	// pending are the headers of unchanged directories, written when something in them is.
	pending []*tar.Header
}

type inode struct{ dev, ino uint64 }

// tree writes what is in a directory of the layers dirs. old is its former
// state, nil for none: what is the same in there is left out.
func (p *packer) tree(rel string, dirs []*os.File, old *os.File) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	list, opaque, err := merge(dirs, p.marks)
	if err != nil {
		return err
	}
	if opaque && p.diff && p.below(rel) {
		if err := p.mark(path.Join(rel, whiteoutOpaque)); err != nil {
			return err
		}
	}
	for _, e := range list {
		if err := p.entry(path.Join(rel, e.name), e, dirs, old); err != nil {
			return err
		}
	}
	return p.deleted(rel, list, old)
}

func (p *packer) entry(rel string, e *entry, dirs []*os.File, old *os.File) error {
	switch {
	case e.gone && p.diff:
		return p.mark(path.Join(path.Dir(rel), whiteoutPrefix+e.name))
	case e.gone, p.diff && p.stub(rel, e, dirs):
		return nil
	case p.diff && strings.HasPrefix(e.name, whiteoutPrefix):
		return nil // a layer cannot have a file of that name: it would say that another was deleted
	case e.isDir():
		return p.directory(rel, e, dirs, old)
	case same(dirs[e.in[0]], old, e):
		return nil
	}
	return p.file(rel, e, dirs[e.in[0]])
}

func (p *packer) directory(rel string, e *entry, dirs []*os.File, old *os.File) error {
	var subs []*os.File
	defer func() {
		for _, d := range subs {
			_ = d.Close() // only read
		}
	}()
	for n, i := range e.in {
		d, err := openDir(dirs[i], e.name)
		if vanished(err) {
			if n == 0 {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		subs = append(subs, d)
	}
	h := p.header(rel, &e.st)
	if err := xattrs(subs[0], h); err != nil {
		return err
	}
	var oldSub *os.File
	if old != nil {
		var err error
		if oldSub, err = openDir(old, e.name); err == nil {
			defer func() { _ = oldSub.Close() }() // only read
		} else if !vanished(err) {
			return err
		}
	}
	depth := len(p.pending)
	p.pending = append(p.pending, h)
	if !same(dirs[e.in[0]], old, e) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	err := p.tree(rel, subs, oldSub)
	p.pending = p.pending[:min(depth, len(p.pending))]
	return err
}

// flush writes the directories that the next entry is in.
func (p *packer) flush() error {
	for _, h := range p.pending {
		if err := p.begin(h); err != nil {
			return err
		}
	}
	p.pending = p.pending[:0]
	return nil
}

// begin begins an entry.
func (p *packer) begin(h *tar.Header) error {
	h.Name = p.prefix + h.Name
	if h.Typeflag == tar.TypeLink {
		h.Linkname = p.prefix + h.Linkname
	}
	return p.tw.WriteHeader(h)
}

// mark writes an empty file that says what was deleted.
func (p *packer) mark(rel string) error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.begin(&tar.Header{Typeflag: tar.TypeReg, Name: rel, Format: tar.FormatPAX, ModTime: time.Unix(0, 0)})
}

// deleted marks what was in old and is not in list.
func (p *packer) deleted(rel string, list []*entry, old *os.File) error {
	if old == nil {
		return nil
	}
	there := make(map[string]bool, len(list))
	for _, e := range list {
		there[e.name] = true
	}
	names, err := old.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if there[name] {
			continue
		}
		if err := p.mark(path.Join(rel, whiteoutPrefix+name)); err != nil {
			return err
		}
	}
	return nil
}

// below says whether a layer below has that name.
func (p *packer) below(rel string) bool {
	for _, l := range p.lowers {
		if _, err := l.Lstat(rel); err == nil {
			return true
		}
	}
	return false
}

// stubs are what the runtime makes to mount on where the image has no such file.
var stubs = map[string]bool{
	"dev": true, "proc": true, "sys": true,
	"etc/resolv.conf": true, "etc/hostname": true, "etc/hosts": true,
}

func (p *packer) stub(rel string, e *entry, dirs []*os.File) bool {
	if !stubs[rel] || p.below(rel) {
		return false
	}
	if !e.isDir() {
		return e.st.Mode&unix.S_IFMT == unix.S_IFREG && e.st.Size == 0
	}
	d, err := openDir(dirs[e.in[0]], e.name)
	if err != nil {
		return vanished(err)
	}
	defer func() { _ = d.Close() }() // only read
	list, _, err := merge([]*os.File{d}, p.marks)
	return err == nil && len(list) == 0
}

// file writes anything but a directory. Its size stays as it was first seen,
// though the container may write to it meanwhile.
func (p *packer) file(rel string, e *entry, dir *os.File) error {
	h := p.header(rel, &e.st)
	if h == nil {
		return nil // a socket is of no use without its listener
	}
	if e.st.Nlink > 1 {
		id := inode{e.st.Dev, e.st.Ino}
		if first, ok := p.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return p.put(h, nil)
		}
		p.links[id] = rel
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		target, err := readlink(dir, e.name)
		if vanished(err) || errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Linkname = target
		return p.put(h, nil)
	case tar.TypeReg:
	default:
		return p.put(h, nil)
	}
	fd, err := unix.Openat(int(dir.Fd()), e.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if vanished(err) {
		delete(p.links, inode{e.st.Dev, e.st.Ino})
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: rel, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd) // another took its place, and reading it might never end
		delete(p.links, inode{e.st.Dev, e.st.Ino})
		return err
	}
	f := os.NewFile(uintptr(fd), rel)
	defer func() { _ = f.Close() }() // only read
	if err := xattrs(f, h); err != nil {
		return err
	}
	return p.put(h, f)
}

func (p *packer) put(h *tar.Header, body io.Reader) error {
	if err := p.flush(); err != nil {
		return err
	}
	if err := p.begin(h); err != nil || body == nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tw}, io.LimitReader(struct{ io.Reader }{body}, h.Size), p.buf)
	if err != nil {
		return err
	}
	if n < h.Size { // it was cut meanwhile
		_, err = io.CopyBuffer(struct{ io.Writer }{p.tw}, io.LimitReader(zeros{}, h.Size-n), p.buf)
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// header makes the header of what st tells of; nil for a socket.
func (p *packer) header(rel string, st *unix.Stat_t) *tar.Header {
	h := &tar.Header{
		Name: rel, Format: tar.FormatPAX, Mode: int64(st.Mode & 0o7777),
		ModTime: time.Unix(st.Mtim.Sec, 0), // whole seconds, as all layers have them
	}
	h.Uid, h.Gid = p.shift.out(int(st.Uid), int(st.Gid))
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, rel+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	default:
		return nil
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	return h
}

// xattrs adds the attributes that a layer carries.
func xattrs(f *os.File, h *tar.Header) error {
	for _, key := range listXattrs(f) {
		value, err := getXattr(f, key)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "getxattr " + key, Path: h.Name, Err: err}
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+key] = string(value)
	}
	return nil
}

// listXattrs lists the attributes of a file that belong into a layer; none
// where the file system has none.
func listXattrs(f *os.File) []string {
	var small [256]byte
	buf := small[:]
	n, err := unix.Flistxattr(int(f.Fd()), buf)
	for errors.Is(err, unix.ERANGE) {
		if n, err = unix.Flistxattr(int(f.Fd()), nil); err == nil {
			buf = make([]byte, n+256)
			n, err = unix.Flistxattr(int(f.Fd()), buf)
		}
	}
	if err != nil || n == 0 {
		return nil
	}
	var keys []string
	for key := range bytes.SplitSeq(bytes.TrimSuffix(buf[:n], []byte{0}), []byte{0}) {
		k := string(key)
		ours := strings.HasPrefix(k, "user.overlay.") || strings.HasPrefix(k, "user.fuseoverlayfs.")
		if k == "security.capability" || strings.HasPrefix(k, "user.") && !ours {
			keys = append(keys, k)
		}
	}
	return keys
}

func getXattr(f *os.File, key string) ([]byte, error) {
	buf := make([]byte, 128)
	n, err := unix.Fgetxattr(int(f.Fd()), key, buf)
	for errors.Is(err, unix.ERANGE) {
		if n, err = unix.Fgetxattr(int(f.Fd()), key, nil); err == nil {
			buf = make([]byte, n+128)
			n, err = unix.Fgetxattr(int(f.Fd()), key, buf)
		}
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

func readlink(dir *os.File, name string) (string, error) {
	for size := 256; ; size *= 2 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
		if err != nil || n < size {
			return string(buf[:max(n, 0)]), err
		}
	}
}
