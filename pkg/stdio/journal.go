package stdio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Rewinder is what a sink can do beyond taking output: with it a chunk that a
// killed daemon was writing is not logged twice.
type Rewinder interface {
	// Position returns where the next chunk will begin.
	Position() (int64, error)
	// Rewind takes back all that was written from a position on.
	Rewind(pos int64) error
}

// chunkSize is the most that one step of a pump moves: what a pipe holds.
const chunkSize = 64 << 10

// journal brings output into a sink exactly once over kill -9, as the
// package's doc tells.
type journal struct {
	sink  moss.LogSink
	rew   Rewinder // nil where the sink is none
	stash int      // a pipe, both ends; empty between steps
	mark  *mark
	spare *scratches

	mu sync.Mutex // a step at a time: there is one stash for both streams
}

// openJournal takes an inherited stash (nil for a new stream) and the mark's
// file, logs what is left in the stash, and is ready.
func openJournal(path string, inherited *os.File, sink moss.LogSink, spare *scratches) (j *journal, err error) {
	j = &journal{sink: sink, stash: -1, spare: spare}
	j.rew, _ = sink.(Rewinder)
	defer func() {
		if err != nil {
			_ = j.close()
			j = nil
		}
	}()
	if inherited == nil {
		j.stash, err = bothWays()
	} else {
		j.stash, err = takeFD(inherited)
	}
	if err != nil {
		return nil, err
	}
	if j.mark, err = openMark(path, inherited == nil); err != nil {
		return nil, err
	}
	return j, j.replay()
}

// takeFD returns a descriptor of our own for a file, which it closes.
func takeFD(f *os.File) (int, error) {
	fd := -1
	err := control(f, func(old int) (err error) {
		fd, err = unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	return fd, errors.Join(err, f.Close())
}

// close frees what the journal holds. Nothing may use it any more.
func (j *journal) close() error {
	var errs []error
	if j.stash >= 0 {
		errs = append(errs, unix.Close(j.stash))
	}
	if j.mark != nil {
		errs = append(errs, j.mark.close())
	}
	return errors.Join(errs...)
}

// replay deals with what a killed daemon left in the stash.
func (j *journal) replay() error {
	n, err := pending(j.stash)
	if err != nil || n == 0 {
		return err
	}
	kind := j.mark.kind()
	buf := make([]byte, n)
	if rest := j.mark.rest.Load(); rest >= 0 {
		logged := n - min(int(rest), n)
		if err := j.drain(buf[:logged]); err != nil {
			return err
		}
		buf = buf[logged:]
	} else if pos := j.mark.pos.Load(); j.rew != nil && pos >= 0 {
		if err := j.rew.Rewind(pos); err != nil {
			return fmt.Errorf("cannot rewind the log: %w", err)
		}
	}
	j.begin(kind)
	_, err = j.log(kind, buf)
	return err
}

// begin notes that the next chunk is not logged yet. The stash is empty, or
// all that is in it is not logged.
func (j *journal) begin(kind moss.StreamKind) {
	pos := int64(-1)
	if j.rew != nil {
		if p, err := j.rew.Position(); err == nil { // else Write fails too, and tells
			pos = p
		}
	}
	j.mark.pos.Store(pos)
	j.mark.stream.Store(int64(kind))
	j.mark.rest.Store(-1)
}

// step moves what fd has to say, at most len(buf) bytes, into the sink and buf.
// An error with n = 0 is that of reading fd; with more it is the sink's.
func (j *journal) step(fd int, kind moss.StreamKind, buf []byte) (n int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.begin(kind)
	n, err = retry(func() (int, error) {
		n, err := unix.Splice(fd, nil, j.stash, nil, len(buf), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		return int(n), err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	return j.log(kind, buf[:n])
}

// log brings the stash, which holds len(buf) bytes, into the sink and buf.
func (j *journal) log(kind moss.StreamKind, buf []byte) (n int, err error) {
	var errs []error
	for n < len(buf) {
		if n > 0 {
			j.begin(kind)
		}
		p := buf[n:]
		m, err := j.peek(p)
		peeked := err == nil
		if !peeked {
			// Without a scratch pipe the chunk is not safe from kill -9, but not lost here.
			if m = len(p); readFull(j.stash, p) != nil {
				return n, errors.Join(append(errs, err)...)
			}
		}
		if err := j.sink.Write(kind, time.Now(), p[:m]); err != nil {
			errs = append(errs, err) // a full disk does not stop the container
		}
		n += m
		j.mark.rest.Store(int64(len(buf) - n))
		if peeked {
			err = j.drain(p[:m])
		}
		if err != nil {
			errs = append(errs, err)
		}
		if peeked && err != nil {
			return n, errors.Join(errs...)
		}
	}
	return n, errors.Join(errs...)
}

// peek copies the beginning of the stash to p without taking it out.
func (j *journal) peek(p []byte) (int, error) {
	s, err := j.spare.get()
	if err != nil {
		return 0, err
	}
	n, err := retry(func() (int, error) {
		n, err := unix.Tee(j.stash, s.w, len(p), unix.SPLICE_F_NONBLOCK)
		return int(n), err
	})
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		s.close()
		return 0, os.NewSyscallError("tee", err)
	}
	if err := readFull(s.r, p[:n]); err != nil {
		s.close()
		return 0, err
	}
	j.spare.put(s)
	return n, nil
}

// drain takes len(p) bytes out of the stash. They are overwritten with
// themselves: p has what the stash has.
func (j *journal) drain(p []byte) error { return readFull(j.stash, p) }

func readFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := retry(func() (int, error) { return unix.Read(fd, p) })
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return os.NewSyscallError("read", err)
		}
		p = p[n:]
	}
	return nil
}

// scratch is a pipe for tee; it is empty when nobody uses it.
type scratch struct{ r, w int }

func (s scratch) close() { _, _ = unix.Close(s.r), unix.Close(s.w) }

// scratches are the spare ones: a step needs one for a moment, and the
// kernel bounds a user's pipes.
type scratches struct {
	mu   sync.Mutex
	free []scratch
}

const maxScratches = 4

func (s *scratches) get() (scratch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		r := s.free[n-1]
		s.free = s.free[:n-1]
		return r, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return scratch{}, os.NewSyscallError("pipe2", err)
	}
	return scratch{p[0], p[1]}, nil
}

func (s *scratches) put(r scratch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) >= maxScratches {
		r.close()
		return
	}
	s.free = append(s.free, r)
}

// mark is a file in memory: a store to it outlives the process.
type mark struct {
	pos    *atomic.Int64 // where in the log the chunk begins; -1 when unknown
	stream *atomic.Int64 // which stream it is of
	rest   *atomic.Int64 // -1: not logged; else how many bytes of the stash, from its end, are not
	page   []byte
}

const markSize = 32

func openMark(path string, fresh bool) (*mark, error) {
	flags := os.O_RDWR | os.O_CREATE
	if fresh {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping stays
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	blank := st.Size() != markSize
	if blank {
		// Written, not only extended: a full file system must fail here, not at a store.
		if _, err := f.WriteAt(make([]byte, markSize), 0); err != nil {
			return nil, err
		}
	}
	page, err := unix.Mmap(int(f.Fd()), 0, markSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	at := func(i int) *atomic.Int64 { return (*atomic.Int64)(unsafe.Pointer(&page[8*i])) }
	m := &mark{pos: at(0), stream: at(1), rest: at(2), page: page}
	if blank {
		m.pos.Store(-1)
		m.rest.Store(-1)
	}
	return m, nil
}

func (m *mark) kind() moss.StreamKind {
	if m.stream.Load() == int64(moss.Stderr) {
		return moss.Stderr
	}
	return moss.Stdout
}

func (m *mark) close() error { return unix.Munmap(m.page) }
