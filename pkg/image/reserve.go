package image

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// reserve is room on the store's disk that only removals get: on a full disk
// not even the lists without an image could be written, and nothing be removed.
// pkg/storage gives it away as well, so that an engine starts there.
type reserve struct {
	path string
	log  *slog.Logger
	mu   sync.Mutex
}

// reserveSize is enough for the lists of some thousand layers, old and new.
const reserveSize = 4 << 20

func newReserve(root string, log *slog.Logger) *reserve {
	return &reserve{path: filepath.Join(root, "reserve"), log: log}
}

// keep takes the room, where there is plenty.
func (r *reserve) keep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := os.Stat(r.path); err == nil || r.free() < 4*reserveSize {
		return
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, reserveSize), f.Close())
	}
	if err != nil {
		_ = os.Remove(r.path) // a part of it is of no use
		r.log.Debug("no room is kept for removals on a full disk", "error", err)
	}
}

// spend gives the room away, where there is no other.
func (r *reserve) spend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.free() >= reserveSize {
		return
	}
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.log.Warn("the room kept for removals is not given away", "error", err)
	}
}

// free is how many bytes the disk has left; much where it does not tell.
func (r *reserve) free() uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(r.path), &st); err != nil {
		return 1 << 62
	}
	return st.Bavail * uint64(st.Bsize) //nolint:gosec // no file system has blocks of less than nothing
}
