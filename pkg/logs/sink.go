package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// sink is the writer of one file. It writes each chunk with one write(2).
type sink struct {
	path    string
	options fileOptions
	format  format
	closed  func() // called once, at Close; nil for nothing

	mu      sync.Mutex
	file    *os.File      // nil once closed
	size    int64         // of what readers may read
	turn    int           // how often the file was rotated
	changed chan struct{} // closed at the next change, where a reader waits for it
	waited  bool
	buf     []byte
	packing bool // rotated files are being compressed

	stop    context.CancelFunc // of the compression
	packer  func()
	packers sync.WaitGroup
}

func newSink(path string, o fileOptions, f format) *sink {
	return &sink{path: path, options: o, format: f, changed: make(chan struct{}), stop: func() {}}
}

// maxKept bounds the encoding buffer that a quiet sink holds on to.
const maxKept = 256 << 10

var errClosed = errors.New("the log is closed")

// open opens the file at its end, after cutting off a torn entry.
func (s *sink) open() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size, err := repair(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.size = f, size
	if s.options.compress {
		var ctx context.Context
		ctx, s.stop = context.WithCancel(context.Background())
		s.packer = func() { s.pack(ctx) }
		s.tidy()
		s.packLocked()
	}
	return nil
}

// repair cuts off what follows the last newline and returns the new size.
func repair(f *os.File) (int64, error) {
	st, err := f.Stat()
	// A file that is cut to nothing, even an empty one, is written to the disk by
	// ext4 where it is closed (auto_da_alloc, ext4(5)): the end of a container
	// would wait for that.
	if err != nil || st.Size() == 0 {
		return 0, err
	}
	var buf [4096]byte
	for end := st.Size(); end > 0; {
		b := buf[:min(end, int64(len(buf)))]
		if _, err := f.ReadAt(b, end-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			end += int64(i+1) - int64(len(b))
			if end == st.Size() {
				return end, nil
			}
			return end, f.Truncate(end)
		}
		end -= int64(len(b))
	}
	return 0, f.Truncate(0)
}

// Write appends a chunk. After an error nothing of it is in the file.
func (s *sink) Write(kind moss.StreamKind, at time.Time, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return errClosed
	}
	if err := s.rotateLocked(); err != nil {
		return err
	}
	b := s.format.append(s.buf[:0], kind, at, p)
	if s.buf = b; cap(b) > maxKept {
		s.buf = nil
	}
	if _, err := s.file.Write(b); err != nil {
		return errors.Join(err, s.file.Truncate(s.size))
	}
	s.size += int64(len(b))
	s.notifyLocked()
	return nil
}

// Position returns where the next chunk will begin, in bytes of a file that
// keeps its name until that chunk is written.
func (s *sink) Position() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return 0, errClosed
	}
	return s.size, s.rotateLocked()
}

// Rewind takes back all that was written from a position on.
func (s *sink) Rewind(pos int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.file == nil:
		return errClosed
	case pos < 0 || pos > s.size:
		return fmt.Errorf("the log has %d bytes, not %d", s.size, pos)
	}
	if err := s.file.Truncate(pos); err != nil {
		return err
	}
	s.size = pos
	return nil
}

// Close ends the log of the run: readers that follow it end.
func (s *sink) Close() error {
	s.mu.Lock()
	f := s.file
	s.file = nil
	s.notifyLocked()
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	s.stop() // what is not compressed is when the log goes on
	s.packers.Wait()
	if s.closed != nil {
		s.closed()
	}
	return f.Close()
}

// rotateLocked begins a new file where the present one is full.
func (s *sink) rotateLocked() error {
	if s.options.maxSize == 0 || s.size < s.options.maxSize {
		return nil
	}
	if err := s.shift(); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	old := s.file
	s.file, s.size = f, 0
	s.turn++
	if s.options.compress {
		s.packLocked()
	}
	return old.Close()
}

// shift makes room for a new file: each takes the next number.
func (s *sink) shift() error {
	// The oldest goes first: a daemon killed in between leaves a gap in the
	// numbers, which readers do not mind.
	for n := s.options.maxFiles - 1; n >= 0; n-- {
		for _, suffix := range []string{"", packed} {
			from := numbered(s.path, n) + suffix
			err := error(nil)
			switch {
			case n == 0 && suffix != "":
				continue
			case n == s.options.maxFiles-1:
				err = os.Remove(from)
			default:
				err = os.Rename(from, numbered(s.path, n+1)+suffix)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func (s *sink) notifyLocked() {
	if s.waited {
		close(s.changed)
		s.changed = make(chan struct{})
		s.waited = false
	}
}
