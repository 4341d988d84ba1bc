package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dirs are where journald keeps files, of this machine.
func Dirs() []string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return nil
	}
	var dirs []string
	for _, d := range []string{"/var/log/journal", "/run/log/journal"} {
		dirs = append(dirs, filepath.Join(d, strings.TrimSpace(string(id))))
	}
	return dirs
}

// Reader goes through the entries of all files that have a field with a value.
// It stands between two entries. It is for one goroutine.
type Reader struct {
	dirs        []string
	name, value string
	parts       []*part // oldest first
	known       map[fileID]bool
	watch       *os.File
	part, at    int // of the next entry
}

type part struct {
	*Entries
	seqnum uint64
	head   time.Time
}

type fileID struct{ dev, ino uint64 }

// errNone is told where not one file can be read.
var errNone = errors.New("none of its files may be read: keep it on disk (Storage=persistent in journald.conf), or join the group systemd-journal")

// OpenAll opens all files in some directories that may be read.
func OpenAll(dirs []string, name, value string) (*Reader, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	r := &Reader{dirs: dirs, name: name, value: value, known: map[fileID]bool{}, watch: os.NewFile(uintptr(fd), "inotify")}
	for _, d := range dirs { // before the files are looked at
		_, err := unix.InotifyAddWatch(fd, d, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, errors.Join(os.NewSyscallError("inotify_add_watch", err), r.Close())
		}
	}
	err = r.look()
	if err == nil && len(r.known) == 0 {
		err = errNone
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close closes all files.
func (r *Reader) Close() error {
	errs := []error{r.watch.Close()}
	for _, p := range r.parts {
		errs = append(errs, p.j.Close())
	}
	return errors.Join(errs...)
}

// look opens the files that are not open yet.
func (r *Reader) look() error {
	var found []*part
	for _, d := range r.dirs {
		entries, err := os.ReadDir(d)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".journal") {
				continue
			}
			p, err := r.open(filepath.Join(d, e.Name()))
			if err != nil {
				return err
			}
			if p != nil {
				found = append(found, p)
			}
		}
	}
	slices.SortFunc(found, func(a, b *part) int {
		if a.j.SeqnumID == b.j.SeqnumID {
			return cmp.Compare(a.seqnum, b.seqnum)
		}
		return a.head.Compare(b.head)
	})
	r.parts = append(r.parts, found...)
	return nil
}

// open opens a file; nil for one that is open, may not be read, has gone, or is damaged.
func (r *Reader) open(path string) (*part, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id := fileID{}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		id = fileID{uint64(s.Dev), s.Ino}
	}
	if r.known[id] {
		return nil, nil
	}
	j, err := Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, errDamaged) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := &part{}
	if p.seqnum, p.head, err = j.Head(); err == nil {
		p.Entries, err = j.With(r.name, r.value)
	}
	if errors.Is(err, errDamaged) { // it is being made, or past help
		return nil, j.Close()
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	r.known[id] = true
	return p, nil
}

// Next returns the next entry; false when there is none yet.
func (r *Reader) Next() (Entry, bool, error) {
	for r.part < len(r.parts) {
		p := r.parts[r.part]
		if uint64(r.at) >= p.n {
			if _, err := p.Len(); err != nil && !errors.Is(err, errDamaged) {
				return Entry{}, false, err
			}
		}
		if uint64(r.at) < p.n {
			e, err := p.At(r.at)
			r.at++
			if errors.Is(err, errDamaged) {
				continue
			}
			return e, err == nil, err
		}
		if r.part == len(r.parts)-1 {
			break
		}
		r.part, r.at = r.part+1, 0
	}
	return Entry{}, false, nil
}

// Previous goes back by an entry and returns it; false at the beginning.
func (r *Reader) Previous() (Entry, bool, error) {
	for {
		for r.at == 0 {
			if r.part == 0 {
				return Entry{}, false, nil
			}
			r.part--
			r.at = int(r.parts[r.part].n)
		}
		r.at--
		e, err := r.parts[r.part].At(r.at)
		if errors.Is(err, errDamaged) {
			continue
		}
		return e, err == nil, err
	}
}

// SeekEnd goes behind the last entry.
func (r *Reader) SeekEnd() error {
	r.part, r.at = max(0, len(r.parts)-1), 0
	for _, p := range r.parts {
		if _, err := p.Len(); err != nil && !errors.Is(err, errDamaged) {
			return err
		}
	}
	if len(r.parts) > 0 {
		r.at = int(r.parts[r.part].n)
	}
	return nil
}

// SeekTime goes before the first entry that is not older.
func (r *Reader) SeekTime(t time.Time) error {
	r.part, r.at = 0, 0
	if t.IsZero() {
		return nil
	}
	for i, p := range r.parts {
		n, err := p.Len()
		if err != nil && !errors.Is(err, errDamaged) {
			return err
		}
		at := sort.Search(n, func(i int) bool {
			e, err := p.At(i)
			return err != nil || !e.Time.Before(t.Truncate(time.Microsecond))
		})
		r.part, r.at = i, at
		if at < n {
			break
		}
	}
	return nil
}

// Wait returns when there may be more entries; ctx's error when that ends.
func (r *Reader) Wait(ctx context.Context) error {
	if err := r.watch.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = r.watch.SetReadDeadline(time.Unix(1, 0)) })()
	var buf [64 << 10]byte
	n, err := r.watch.Read(buf[:])
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	if newFile(buf[:n]) {
		return r.look()
	}
	return nil
}

// newFile says that one of inotify's events is about a file that was not there,
// or that some events were lost.
func newFile(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		mask, size := le.Uint32(events[4:]), le.Uint32(events[12:])
		name := events[unix.SizeofInotifyEvent:]
		name = name[:min(int(size), len(name))]
		journal := strings.HasSuffix(string(bytes.TrimRight(name, "\x00")), ".journal")
		if mask&unix.IN_Q_OVERFLOW != 0 || mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0 && journal {
			return true
		}
		events = events[unix.SizeofInotifyEvent+len(name):]
	}
	return false
}
