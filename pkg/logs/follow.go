package logs

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// follow reads on from an offset of the last file until the sink is closed.
func (r *reader) follow(ctx context.Context, at int64) error {
	var until <-chan time.Time
	if !r.q.Until.IsZero() {
		t := time.NewTimer(time.Until(r.q.Until))
		defer t.Stop()
		until = t.C
	}
	f := r.files[len(r.files)-1]
	turn := r.turn // which file f is
	for {
		if r.ended && r.turn == turn && at >= r.limit || r.sink == nil {
			return nil
		}
		end, next, wait, err := r.progress(f, turn, at)
		if errors.Is(err, errPast) {
			return nil
		}
		if err != nil {
			return err
		}
		if wait != nil {
			select {
			case <-wait:
			case <-until:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if at, err = r.scan(ctx, f.File, at, end); errors.Is(err, errPast) {
			return nil
		} else if err != nil {
			return err
		}
		if next != nil {
			_ = f.Close() // read to its end
			r.files = []logFile{next.file}
			if f, err = next.file.plain(); err != nil {
				return err
			}
			r.files[0], turn, at = f, next.turn, 0
		}
	}
}

// nextFile is the file that follows one that is full.
type nextFile struct {
	file logFile
	turn int
}

// progress says how far f can be read, and which file comes after it; where
// there is nothing new, what to wait for.
func (r *reader) progress(f logFile, turn int, at int64) (end int64, next *nextFile, wait <-chan struct{}, err error) {
	s := r.sink
	s.mu.Lock()
	defer s.mu.Unlock()
	r.publishedLocked()
	if turn == s.turn {
		if at < s.size || r.ended {
			return s.size, nil, nil, nil
		}
		s.waited = true
		return 0, nil, s.changed, nil
	}
	st, err := f.Stat() // complete: it was rotated
	if err != nil {
		return 0, nil, nil, err
	}
	// Files that were deleted before they were read are lost, as the user asked.
	for n := s.turn - turn - 1; n >= 0; n-- {
		g, err := openRotated(s.path, n)
		if err == nil {
			return st.Size(), &nextFile{g, s.turn - n}, nil, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return 0, nil, nil, err
		}
	}
	return 0, nil, nil, errPast // someone has deleted the log
}
