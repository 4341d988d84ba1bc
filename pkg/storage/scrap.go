package storage

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// scrap deletes trees behind the back of those who wait. A tree is renamed into
// its directory first, so that a later process finishes what this one does not.
type scrap struct {
	dir  string
	log  *slog.Logger
	ctx  context.Context //nolint:containedctx // ends with close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	busy    bool
	again   bool          // something came while it was busy
	stopped bool          // no more
	idle    chan struct{} // closed when it is not busy any more
}

func openScrap(dir string, log *slog.Logger) (*scrap, error) {
	// On a full disk it could not be made.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &scrap{dir: dir, log: log, ctx: ctx, stop: stop}
	s.wake(nil)
	return s, nil
}

// add takes a tree; nil when it is not there.
func (s *scrap) add(path string) error {
	err := os.Rename(path, filepath.Join(s.dir, moss.NewHexID()))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// wake deletes what is there, after the file is closed, which may take long.
func (s *scrap) wake(first *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		if first != nil {
			_ = first.Close() // nothing was written by it
		}
		return
	}
	if first != nil {
		s.wg.Go(func() {
			_ = first.Close() // nothing was written by it
			s.wake(nil)
		})
		return
	}
	if s.busy {
		s.again = true
		return
	}
	s.busy, s.idle = true, make(chan struct{})
	s.wg.Go(s.run)
}

func (s *scrap) run() {
	for {
		if err := emptyPath(s.ctx, s.dir); err != nil && s.ctx.Err() == nil {
			s.log.Warn("the remains of a container could not be deleted; the next start tries again", "error", err)
		}
		s.mu.Lock()
		if !s.again || s.stopped {
			s.busy = false
			close(s.idle)
			s.mu.Unlock()
			return
		}
		s.again = false
		s.mu.Unlock()
	}
}

// wait returns when all that was added before is deleted, or cannot be.
func (s *scrap) wait(ctx context.Context) error {
	s.wake(nil)
	for {
		s.mu.Lock()
		busy, idle := s.busy, s.idle
		s.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// working says whether something is being deleted.
func (s *scrap) working() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy
}

// close stops between two files.
func (s *scrap) close() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
}

func emptyPath(ctx context.Context, path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only read
	return empty(ctx, d)
}

// empty deletes what is in a directory.
func empty(ctx context.Context, d *os.File) error {
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := unix.Unlinkat(int(d.Fd()), name, 0)
		if errors.Is(err, unix.EISDIR) {
			err = emptySub(ctx, d, name)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, &os.PathError{Op: "remove", Path: filepath.Join(d.Name(), name), Err: err})
		}
	}
	return errors.Join(errs...)
}

func emptySub(ctx context.Context, parent *os.File, name string) error {
	d, err := openDir(parent, name)
	if err != nil {
		return err
	}
	err = empty(ctx, d)
	_ = d.Close() // only read
	if err != nil {
		return err
	}
	return unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR)
}
