package storage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// paxXattr begins the names of records that are attributes.
const paxXattr = "SCHILY.xattr."

func (u *unpacker) directory(d int, base, name string, h *tar.Header, merge bool) error {
	if !merge {
		if err := unix.Mkdirat(d, base, 0o700); err != nil {
			return err
		}
	}
	fd, err := unix.Openat(d, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // only attributes were written
	at, mod := stamps(h)
	u.dirs = append(u.dirs, stamped{name: name, at: at, mod: mod})
	return u.dress(fd, h)
}

// file makes a regular file. Holes stay holes where the tar knows of them.
func (u *unpacker) file(d int, base string, h *tar.Header, body io.Reader) error {
	fd, err := unix.Openat(d, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	err = u.fill(f, h, body)
	if err == nil {
		err = u.dress(fd, h)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return touch(d, base, times(h))
}

func (u *unpacker) fill(f *os.File, h *tar.Header, body io.Reader) error {
	if !isSparse(h) {
		_, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{body}, u.buf)
		return badTar(err)
	}
	empty := make([]byte, len(u.buf))
	var size int64
	for {
		n, err := body.Read(u.buf)
		if !bytes.Equal(u.buf[:n], empty[:n]) {
			if _, err := f.WriteAt(u.buf[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if err == io.EOF { //nolint:errorlint // the end, and nothing that wraps it
			return f.Truncate(size)
		}
		if err == nil {
			err = u.ctx.Err()
		}
		if err != nil {
			return badTar(err)
		}
	}
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// dress gives an open file its owner, attributes and mode: in that order, for
// each takes away some of what comes after.
func (u *unpacker) dress(fd int, h *tar.Header) error {
	if err := u.chown(fd, "", h, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		key, ok := strings.CutPrefix(k, paxXattr)
		if !ok || strings.HasPrefix(key, "user.overlay.") || strings.HasPrefix(key, "user.fuseoverlayfs.") || strings.HasPrefix(key, "trusted.") {
			continue // the storage's own
		}
		err := unix.Fsetxattr(fd, key, []byte(v), 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) { // as docker
			u.log.Debug("an attribute was not copied", "file", h.Name, "attribute", key, "error", err)
		} else if err != nil {
			return fmt.Errorf("attribute %s: %w", key, err)
		}
	}
	return unix.Fchmod(fd, mode(h))
}

func mode(h *tar.Header) uint32 { return uint32(h.Mode & 0o7777) } //nolint:gosec // masked

func (u *unpacker) chown(d int, base string, h *tar.Header, flags int) error {
	uid, gid := h.Uid, h.Gid
	if u.owner != nil {
		uid, gid = u.owner.uid, u.owner.gid
	}
	uid, gid, err := u.shift.in(uid, gid)
	if err != nil {
		return moss.Errorf(moss.Invalid, "%q belongs to %d:%d: %w", h.Name, h.Uid, h.Gid, err)
	}
	err = unix.Fchownat(d, base, uid, gid, flags)
	if errors.Is(err, unix.EINVAL) {
		err = moss.Errorf(moss.Invalid, "%q belongs to %d:%d, and there are not so many subordinate ids: give the user more in /etc/subuid and /etc/subgid", h.Name, uid, gid)
	}
	return err
}

// link makes a hard link to a file that came before, or was there.
func (u *unpacker) link(d int, base string, h *tar.Header) error {
	target, err := u.inside(h.Linkname)
	if err != nil {
		return err
	}
	from, err := u.v.dir(path.Dir(target))
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only looked at
	return unix.Linkat(int(from.Fd()), path.Base(target), d, base, 0)
}

func (u *unpacker) fifo(d int, base string, h *tar.Header) error {
	if err := unix.Mknodat(d, base, unix.S_IFIFO|0o600, 0); err != nil {
		return err
	}
	// By its descriptor: by its name, a link in its place would be followed.
	fd, err := unix.Openat(d, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // only looked at
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return unix.EEXIST
	}
	if err := u.chown(fd, "", h, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode(h)); err != nil {
		return err
	}
	return touch(d, base, times(h))
}

// stamps are an entry's times of access and change.
func stamps(h *tar.Header) (at, mod time.Time) {
	at, mod = h.AccessTime, h.ModTime
	if at.Before(mod) {
		at = mod
	}
	return at, mod
}

func times(h *tar.Header) [2]unix.Timespec { return timespecs(stamps(h)) }

func timespecs(at, mod time.Time) [2]unix.Timespec {
	var ts [2]unix.Timespec
	for i, t := range []time.Time{at, mod} {
		if !t.IsZero() {
			ts[i] = unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
		}
	}
	return ts
}

func touch(d int, base string, ts [2]unix.Timespec) error {
	err := unix.UtimesNanoAt(d, base, ts[:], unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil // the container has removed it already
	}
	return err
}

// stamp sets a directory's times, if it is still there.
func (u *unpacker) stamp(s stamped) error {
	d, err := u.v.dir(path.Dir(s.name))
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only looked at
	return touch(int(d.Fd()), path.Base(s.name), timespecs(s.at, s.mod))
}
