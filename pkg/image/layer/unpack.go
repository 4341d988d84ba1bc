package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vbatts/tar-split/tar/storage"

	"github.com/moss-containers/moss/pkg/moss"
)

// unpacker makes the files of one tar. The tar is read by one goroutine, which
// makes directories, symbolic links and large files itself and leaves small
// files to crew. Where the order matters it waits for the crew.
type unpacker struct {
	tree  *tree
	crew  *crew
	split *split
	tape  *tape
	tar   *tar.Reader
	crc   hash.Hash64
	aufs  bool // whiteouts stay files, as fuse-overlayfs has them
	where string

	links   []link // hard links that wait for their targets
	saved   *saved // contents that a later entry replaced
	ids     ids
	skipped []string
	names   int
	seeking bool       // walk makes nothing
	mu      sync.Mutex // of skipped
}

// failed says what could not be made; the machine is to blame.
func failed(name string, err error) error { return &makeError{name, err} }

type makeError struct {
	name string
	err  error
}

func (e *makeError) Error() string { return fmt.Sprintf("%q: %v", e.name, e.err) }
func (e *makeError) Unwrap() error { return e.err }

// unpack reads a tar to its end and makes its files in dest. What is needed to
// make the same tar of them is in the returned file.
func unpack(r io.Reader, dest string, aufs bool) (u *unpacker, err error) {
	u = &unpacker{aufs: aufs, where: dest, crc: crc64.New(storage.CRCTable), ids: newIDs()}
	if u.tree, err = newTree(dest); err != nil {
		return nil, err
	}
	defer u.tree.close()
	if u.split, err = newSplit(filepath.Dir(dest)); err != nil {
		return nil, err
	}
	made := u // u is nil where an error is returned
	defer func() {
		if err != nil {
			err = errors.Join(made.explain(err), made.split.f.Close())
		}
	}()
	u.saved = &saved{dir: filepath.Dir(dest)}
	defer u.saved.close()
	u.tape = &tape{r: r}
	u.tar = tar.NewReader(u.tape)
	if err := u.root(); err != nil {
		return nil, err
	}
	u.crew = hire(u)
	err = u.entries()
	// The crew has ended before the tree is closed, whatever happened.
	if late := u.crew.dismiss(); late != nil && err == nil {
		err = late
	}
	if err != nil {
		return nil, err
	}
	if err := u.finishDirs(); err != nil {
		return nil, err
	}
	if err := u.split.w.Flush(); err != nil {
		return nil, err
	}
	return u, u.restore()
}

// entries makes all there is.
func (u *unpacker) entries() error {
	for {
		u.tape.on, u.tape.raw = true, u.tape.raw[:0]
		h, err := u.tar.Next()
		u.tape.on = false
		if err != nil && err != io.EOF {
			return u.damage(err)
		}
		if err := u.split.segment(u.tape.raw); err != nil {
			return err
		}
		if err != nil {
			break
		}
		u.split.files++
		if err := u.crew.failure(); err != nil {
			return err
		}
		if err := u.entry(h); err != nil {
			return err
		}
	}
	if err := u.settle(); err != nil {
		return err
	}
	return u.rest()
}

// rest keeps what is behind the end of the tar.
func (u *unpacker) rest() error {
	buf := u.crew.buffer()
	defer u.crew.giveBack(buf)
	for {
		n, err := u.tape.Read(buf[:])
		if e := u.split.segment(buf[:n]); e != nil {
			return e
		}
		if err == io.EOF { //nolint:errorlint // the end, and nothing that wraps it
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// damage gives errors in reading the tar their class.
func (u *unpacker) damage(err error) error {
	if _, ours := errors.AsType[*moss.Error](err); ours {
		return err
	}
	for _, bad := range []error{io.ErrUnexpectedEOF, tar.ErrHeader, tar.ErrFieldTooLong, tar.ErrInsecurePath} {
		if errors.Is(err, bad) {
			return invalid(err)
		}
	}
	return err // of the stream
}

// entry makes one entry of the tar.
func (u *unpacker) entry(h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
	default:
		return moss.Errorf(moss.Invalid, "the layer has an entry of the unknown type %q: %q", h.Typeflag, h.Name)
	}
	if u.names++; u.names > maxNames {
		return moss.Errorf(moss.Invalid, "the layer has more than %d files", maxNames)
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		// As docker does: the root belongs to the layer below, or is made.
		return u.empty(h)
	}
	base := name[strings.LastIndexByte(name, '/')+1:]
	if strings.HasPrefix(name, metaPrefix) || strings.Contains(name, "/"+metaPrefix) || strings.HasPrefix(base, whiteoutPrefix) {
		if done, err := u.whiteout(h, name, base); done || err != nil {
			return err
		}
	}
	m, err := u.meta(h)
	if err != nil {
		return err
	}
	d, base, err := u.parent(name)
	if err != nil {
		return err
	}
	return u.put(h, d, base, m)
}

// put makes an entry in d.
func (u *unpacker) put(h *tar.Header, d *dir, base string, m *meta) error {
	full := d.join(base)
	if k := u.tree.kindOf(full); k != nothing {
		kept, err := u.replace(d, base, k, h.Typeflag == tar.TypeDir)
		if err != nil {
			return err
		}
		if kept != nil {
			return u.merge(kept, m)
		}
		if k == isHidden && h.Typeflag == tar.TypeDir {
			defer func() {
				if sub := u.tree.dirs[full]; sub != nil {
					_ = u.opaque(sub)
				}
			}()
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		_, err := u.makeDir(d, base, m)
		return err
	case tar.TypeSymlink:
		u.tree.set(full, isLink)
		return u.symlink(d, base, h.Linkname, m)
	case tar.TypeLink:
		u.tree.set(full, isOther)
		return u.link(h.Linkname, d, base)
	case tar.TypeFifo:
		u.tree.set(full, isOther)
		return u.fifo(d, base, m)
	case tar.TypeChar, tar.TypeBlock:
		u.tree.set(full, isOther)
		u.skip(full + ": device nodes cannot be made in a user namespace")
		return nil
	}
	if h.Size == 0 {
		u.tree.set(full, isOther)
	} else {
		u.tree.set(full, isFile)
	}
	return u.file(h, d, base, m)
}

// empty reads what an entry has that is not made.
func (u *unpacker) empty(h *tar.Header) error {
	if isHeaderOnly(h.Typeflag) || h.Size == 0 {
		return nil
	}
	_, err := u.recorded(func([]byte, int64) error { return nil })
	return err
}

func isHeaderOnly(flag byte) bool {
	return slices.Contains([]byte{tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo}, flag)
}

// skip notes what cannot be made.
func (u *unpacker) skip(what string) {
	const most = 100
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.skipped) < most {
		u.skipped = append(u.skipped, what)
	} else if len(u.skipped) == most {
		u.skipped = append(u.skipped, "…")
	}
}

// meta is what a file has beside its contents.
type meta struct {
	uid, gid     uint32
	mode         uint32 // the lowest twelve bits
	mtime, atime time.Time
	xattrs       []xattr
}

type xattr struct{ name, value string }

const (
	paxXattr    = "SCHILY.xattr."
	impliedMode = 0o755 // of a directory that the tar has files in, but not itself
)

// meta reads it from a header.
func (u *unpacker) meta(h *tar.Header) (*meta, error) {
	m := &meta{mode: uint32(h.Mode & 0o7777), mtime: h.ModTime, atime: h.AccessTime} //nolint:gosec // masked
	var err error
	if m.uid, m.gid, err = u.ids.of(h); err != nil {
		return nil, err
	}
	if m.atime.Before(m.mtime) {
		m.atime = m.mtime
	}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		switch {
		case !ok, name == "security.selinux": // labels are the machine's matter
		case isOurs(name):
			u.skip(h.Name + ": the attribute " + name + " is the storage's own")
		default:
			m.xattrs = append(m.xattrs, xattr{name, v})
		}
	}
	return m, nil
}

// isOurs says whether an attribute would change how layers are put together.
func isOurs(name string) bool {
	for _, prefix := range []string{"trusted.overlay.", "user.overlay.", "user.containers.", "user.fuseoverlayfs."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
