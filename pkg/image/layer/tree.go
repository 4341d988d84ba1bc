package layer

import (
	"hash/maphash"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// What has been made under a name.
type kind uint8

const (
	nothing  kind = iota
	isDir         // in tree.dirs
	isFile        // a regular file with contents of its own in the tar
	isLink        // a symbolic link
	isHidden      // a whiteout, as overlay has it
	isOther       // an empty file, a hard link, a FIFO; a device that was left out
)

// Limits on what is kept in memory of a layer.
const (
	maxNames = 4 << 20
	maxDirs  = 512 << 10
	maxLinks = 40 // followed for one name, as the kernel's
	openDirs = 64
)

// tree is the directory that is unpacked to. It starts empty and is ours alone,
// so that what is in it is known without asking: a name is followed here, step
// by step, through directories made here and symbolic links read within them;
// the kernel sees only names relative to a directory, and follows no link.
type tree struct {
	root   *dir
	seed   maphash.Seed
	kinds  map[uint64]kind // by the hash of the resolved name
	dirs   map[string]*dir // by the resolved name
	alias  map[string]*dir // by a name that leads through symbolic links
	umask  uint32
	opened []*dir // that have a descriptor, at most openDirs; the oldest first
	mu     sync.Mutex
}

// dir is a directory of a tree.
type dir struct {
	up     *dir   // itself for the root
	path   string // resolved, "" for the root
	fd     int    // -1: closed
	users  int    // of fd
	setgid bool   // what is made in it gets its group
	meta   *meta  // to be set at the end
}

func (d *dir) join(base string) string {
	if d.path == "" {
		return base
	}
	return d.path + "/" + base
}

func newTree(root string) (*tree, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	t := &tree{root: &dir{fd: fd, users: 1}, seed: maphash.MakeSeed(), kinds: map[uint64]kind{}, alias: map[string]*dir{}}
	t.root.up = t.root
	t.dirs = map[string]*dir{"": t.root}
	return t, nil
}

func (t *tree) close() {
	for _, d := range t.opened {
		_ = unix.Close(d.fd)
	}
	_ = unix.Close(t.root.fd)
}

func (t *tree) key(name string) uint64  { return maphash.String(t.seed, name) }
func (t *tree) kindOf(name string) kind { return t.kinds[t.key(name)] }
func (t *tree) set(name string, k kind) { t.kinds[t.key(name)] = k }
func (t *tree) forget(name string)      { delete(t.kinds, t.key(name)) }

// use opens a directory until release. The most recently used stay open.
func (t *tree) use(d *dir) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.fd < 0 || d == t.root {
		if d == t.root {
			return d.fd, nil
		}
		fd, err := unix.Openat2(t.root.fd, d.path, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err != nil {
			return -1, failed(d.path, err)
		}
		d.fd = fd
		t.opened = append(t.opened, d)
		t.shrink()
	}
	d.users++
	return d.fd, nil
}

func (t *tree) release(d *dir) {
	if d == t.root {
		return
	}
	t.mu.Lock()
	d.users--
	t.mu.Unlock()
}

// shrink closes the oldest that nobody uses.
func (t *tree) shrink() {
	for i := 0; len(t.opened) > openDirs && i < len(t.opened)-1; i++ {
		if d := t.opened[i]; d.users == 0 {
			_ = unix.Close(d.fd)
			d.fd = -1
			t.opened = append(t.opened[:i], t.opened[i+1:]...)
			i--
		}
	}
}

// drop forgets a directory that is removed.
func (t *tree) drop(d *dir) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, o := range t.opened {
		if o == d {
			_ = unix.Close(d.fd)
			t.opened = append(t.opened[:i], t.opened[i+1:]...)
			break
		}
	}
	d.fd = -1
	delete(t.dirs, d.path)
}

// clean makes a name of an archive relative to the root. Names that lead out of
// it are refused, as docker does.
func clean(name string) (string, error) {
	if len(name) >= unix.PathMax {
		return "", moss.Errorf(moss.Invalid, "the layer has a name of %d bytes: %d are the limit", len(name), unix.PathMax-1)
	}
	name = path.Clean(strings.TrimLeft(name, "/"))
	if name == "." {
		return "", nil
	}
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", moss.Errorf(moss.Invalid, "the layer has the name %q, which leads out of it", name)
	}
	return name, nil
}

// parent returns the directory in which a clean name is, made where it is
// missing, and the last element.
func (u *unpacker) parent(name string) (*dir, string, error) {
	at := strings.LastIndexByte(name, '/')
	if at < 0 {
		return u.tree.root, name, nil
	}
	d, err := u.dir(name[:at])
	return d, name[at+1:], err
}

// dir returns the directory that a clean name leads to.
func (u *unpacker) dir(name string) (*dir, error) {
	if d := u.tree.dirs[name]; d != nil {
		return d, nil
	}
	if d := u.tree.alias[name]; d != nil {
		return d, nil
	}
	links := 0
	d, err := u.walk(u.tree.root, name, &links)
	if err == nil && d.path != name && len(u.tree.alias) < maxDirs {
		u.tree.alias[name] = d
	}
	return d, err
}

// walk follows a name from a directory. ".." at the root stays there, as in a
// container.
func (u *unpacker) walk(d *dir, name string, links *int) (*dir, error) {
	if strings.HasPrefix(name, "/") {
		d = u.tree.root
	}
	for el := range strings.SplitSeq(name, "/") {
		var err error
		switch el {
		case "", ".":
		case "..":
			d = d.up
		default:
			d, err = u.step(d, el, links)
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// step goes down one element.
func (u *unpacker) step(d *dir, el string, links *int) (*dir, error) {
	full := d.join(el)
	if sub := u.tree.dirs[full]; sub != nil {
		return sub, nil
	}
	k := u.tree.kindOf(full)
	if u.seeking && k != isLink {
		return nil, moss.Errorf(moss.Invalid, "the layer has a hard link to what is below %q, which is no directory of it", full)
	}
	switch k {
	case isLink:
		if *links++; *links > maxLinks {
			return nil, moss.Errorf(moss.Invalid, "%q is below too many symbolic links", full)
		}
		target, err := u.readlink(d, el)
		if err != nil {
			return nil, err
		}
		return u.walk(d, target, links)
	case isHidden:
		// The whiteout is for what lower layers have.
		if err := u.remove(d, el); err != nil {
			return nil, err
		}
		sub, err := u.mkdir(d, el, impliedMode)
		if err != nil {
			return nil, err
		}
		return sub, u.opaque(sub)
	case isFile, isOther:
		return nil, moss.Errorf(moss.Invalid, "%q is no directory, and the layer has files below it", full)
	case nothing, isDir:
	}
	return u.mkdir(d, el, impliedMode)
}

func (u *unpacker) readlink(d *dir, el string) (string, error) {
	fd, err := u.tree.use(d)
	if err != nil {
		return "", err
	}
	defer u.tree.release(d)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, el, buf)
	if err != nil {
		return "", failed(d.join(el), err)
	}
	return string(buf[:n]), nil
}
