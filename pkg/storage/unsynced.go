package storage

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// unsynced keeps a file in the store's directory while layers may be there of
// which the disk does not know all: their files are not synced one by one. Where
// the file is found after another boot, these layers are looked at.
type unsynced struct {
	name string

	mu      sync.Mutex
	marked  bool
	at      time.Time // of the mark, by the clock on the wall
	changes int       // counts the changes
	syncing bool
	wg      sync.WaitGroup
	fail    func(error)
}

func bootID() []byte {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return []byte("unknown")
	}
	return bytes.TrimSpace(b)
}

// since gives the time from which on layers may be damaged; zero for none.
func (u *unsynced) since() (time.Time, error) {
	b, err := os.ReadFile(u.name)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	st, err := os.Stat(u.name)
	if err != nil {
		return time.Time{}, err
	}
	u.marked, u.at = true, st.ModTime()
	if bytes.Equal(bytes.TrimSpace(b), bootID()) { // the machine did not stop: all is in its memory
		return time.Time{}, nil
	}
	return st.ModTime().Add(-time.Minute), nil
}

// Changing must be called before a layer or an image is put into the store, and
// [Storage.Changed] after, by whoever does not sync it.
func (s *Storage) Changing() error {
	u := &s.unsynced
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changes++
	// Where the clock was set back, the mark must tell of an earlier time.
	if u.marked && !time.Now().Before(u.at) {
		return nil
	}
	if err := replace(u.name, append(bootID(), '\n'), true); err != nil {
		return moss.Wrap(err, "mark the store", "")
	}
	dir, err := os.Open(filepath.Dir(u.name))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return moss.Wrap(err, "mark the store", "")
	}
	u.marked, u.at = true, time.Now().Round(0)
	return nil
}

// Changed syncs the store behind the caller's back.
func (s *Storage) Changed() {
	u := &s.unsynced
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.syncing || !u.marked {
		return
	}
	u.syncing = true
	u.wg.Go(u.settle)
}

// settle syncs until nothing has changed meanwhile.
func (u *unsynced) settle() {
	for {
		u.mu.Lock()
		before := u.changes
		u.mu.Unlock()
		err := syncFS(filepath.Dir(u.name))
		u.mu.Lock()
		if err == nil && u.changes != before {
			u.mu.Unlock()
			continue
		}
		if err == nil {
			err = os.Remove(u.name)
		}
		u.marked, u.syncing = err != nil, false
		u.mu.Unlock()
		if err != nil {
			u.fail(err)
		}
		return
	}
}

func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// recover looks at an opened store and says in the log what it found.
func (s *Storage) recover(ctx context.Context, lost []string) error {
	since, err := s.unsynced.since()
	if err != nil {
		return err
	}
	if !since.IsZero() {
		s.log.WarnContext(ctx, "the machine stopped before all layers were on its disk: they are looked at", "since", since)
	}
	found, err := s.check(ctx, since)
	if err != nil {
		return err
	}
	if err := s.pruneLinks(); err != nil {
		s.log.WarnContext(ctx, "some links of the store lead nowhere", "error", err)
	}
	s.report = report{at: time.Now(), found: append(lost, found...)}
	for _, f := range s.report.found {
		s.log.ErrorContext(ctx, "the store was damaged", "found", f)
	}
	s.Changed()
	return nil
}
