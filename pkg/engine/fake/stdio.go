package fake

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Stdio keeps standard streams: pipes, and for a terminal a pipe each way.
// Clients are written to without a buffer, so they must read. What outlives
// the daemon is in Kept.
type Stdio struct {
	Kept *KeptStdio
	// NoPipes, when set, makes streams that nothing goes through, for tests in
	// a synctest bubble, where a read of a pipe would keep the clock from moving.
	NoPipes bool

	mu      sync.Mutex
	streams map[moss.StreamID]*fakeStream
}

var (
	_ engine.Stdio    = (*Stdio)(nil)
	_ engine.Attacher = (*Stdio)(nil)
)

// KeptStdio is the descriptor store of the fake.
type KeptStdio struct {
	mu   sync.Mutex
	ends map[moss.StreamID]*fakeEnds
}

// fakeEnds are both sides of a stream's pipes.
type fakeEnds struct {
	in, out, err                *os.File // ours
	childIn, childOut, childErr *os.File
	size                        moss.TermSize
}

type fakeStream struct {
	mu      sync.Mutex
	spec    moss.StdioSpec
	sink    engine.LogSink
	ends    *fakeEnds // nil before Open
	clients map[*fakeClient]bool
	early   []fakeChunk // OneClient, before the first
	waits   bool        // for that client
	opened  chan struct{}
	ended   chan struct{}
	pumps   sync.WaitGroup
}

type fakeChunk struct {
	kind moss.StreamKind
	data []byte
}

type fakeClient struct {
	mu   sync.Mutex // a write at a time
	io   moss.AttachIO
	gone bool
}

// NewStdio returns a Stdio that finds in kept what an earlier one had; nil for
// nothing.
func NewStdio(kept *KeptStdio) *Stdio {
	if kept == nil {
		kept = &KeptStdio{ends: map[moss.StreamID]*fakeEnds{}}
	}
	return &Stdio{Kept: kept, streams: map[moss.StreamID]*fakeStream{}}
}

func (s *Stdio) stream(id moss.StreamID, create bool) *fakeStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.streams[id]
	if f == nil && create {
		f = &fakeStream{clients: map[*fakeClient]bool{}, opened: make(chan struct{}), ended: make(chan struct{})}
		s.streams[id] = f
	}
	return f
}

// Open implements engine.Stdio.
func (s *Stdio) Open(_ context.Context, id moss.StreamID, spec moss.StdioSpec, sink engine.LogSink) (moss.ChildStdio, error) {
	f := s.stream(id, true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ends != nil {
		return moss.ChildStdio{}, moss.Errorf(moss.Conflict, "streams are open already")
	}
	e := &fakeEnds{size: spec.Size}
	if !s.NoPipes {
		if err := e.open(); err != nil {
			return moss.ChildStdio{}, err
		}
	}
	if !spec.Stdin && e.in != nil {
		_ = e.in.Close() // the process reads the end at once, as of /dev/null
	}
	if spec.Persist {
		s.Kept.mu.Lock()
		s.Kept.ends[id] = e
		s.Kept.mu.Unlock()
	}
	f.beginLocked(spec, sink, e)
	if spec.TTY {
		return moss.ChildStdio{ConsoleSocket: "/fake/" + string(id)}, nil
	}
	return moss.ChildStdio{Stdin: dup(e.childIn), Stdout: dup(e.childOut), Stderr: dup(e.childErr)}, nil
}

func (e *fakeEnds) open() error {
	var errs [3]error
	e.childIn, e.in, errs[0] = os.Pipe()
	e.out, e.childOut, errs[1] = os.Pipe()
	e.err, e.childErr, errs[2] = os.Pipe()
	return errors.Join(errs[:]...)
}

func (f *fakeStream) beginLocked(spec moss.StdioSpec, sink engine.LogSink, e *fakeEnds) {
	f.spec, f.sink, f.ends = spec, sink, e
	f.waits = spec.OneClient && len(f.clients) == 0
	if e.out != nil {
		f.pumps.Go(func() { f.pump(e.out, moss.Stdout) })
		f.pumps.Go(func() { f.pump(e.err, moss.Stderr) })
	}
	close(f.opened)
}

// Left names the streams that are open, stored or attached to.
func (s *Stdio) Left() []moss.StreamID {
	left := map[moss.StreamID]bool{}
	s.mu.Lock()
	for id := range s.streams {
		left[id] = true
	}
	s.mu.Unlock()
	s.Kept.mu.Lock()
	defer s.Kept.mu.Unlock()
	for id := range s.Kept.ends {
		left[id] = true
	}
	return slices.Sorted(maps.Keys(left))
}

// Process returns the process's side of a stream that is open, for tests to
// play the process; with a terminal out and err are one.
func (s *Stdio) Process(id moss.StreamID) (in io.Reader, out, err io.Writer) {
	f := s.stream(id, false)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spec.TTY {
		return f.ends.childIn, f.ends.childOut, f.ends.childOut
	}
	return f.ends.childIn, f.ends.childOut, f.ends.childErr
}

// Size returns the terminal's size.
func (s *Stdio) Size(id moss.StreamID) moss.TermSize {
	f := s.stream(id, false)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends.size
}

func (f *fakeStream) pump(from *os.File, kind moss.StreamKind) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			f.deliver(fakeChunk{kind, append([]byte(nil), buf[:n]...)})
		}
		if err != nil {
			return
		}
	}
}

func (f *fakeStream) deliver(c fakeChunk) {
	f.mu.Lock()
	sink := f.sink
	var clients []*fakeClient
	for cl := range f.clients {
		clients = append(clients, cl)
	}
	if f.waits {
		f.early = append(f.early, c)
	}
	f.mu.Unlock()
	if sink != nil {
		_ = sink.Write(c.kind, time.Now(), c.data) // a fake's log is not full
	}
	for _, cl := range clients {
		cl.write(c)
	}
}

func (c *fakeClient) write(k fakeChunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	to := c.io.Stdout
	if k.kind == moss.Stderr {
		to = c.io.Stderr
	}
	if to != nil && !c.gone {
		_, err := to.Write(k.data)
		c.gone = err != nil
	}
}

// Ready implements engine.Stdio; the terminal is there from the start.
func (s *Stdio) Ready(_ context.Context, id moss.StreamID) error {
	if s.stream(id, false) == nil {
		return moss.Errorf(moss.NotFound, "no such streams")
	}
	return nil
}

// Restart returns what a new daemon has in the place of this one, which ends.
func (s *Stdio) Restart() *Stdio {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.streams {
		f.interrupt(time.Unix(1, 0))
		f.end()
	}
	next := NewStdio(s.Kept)
	next.NoPipes = s.NoPipes
	return next
}

// Restore implements engine.Stdio.
func (s *Stdio) Restore(_ context.Context, id moss.StreamID, spec moss.StdioSpec, sink engine.LogSink) error {
	s.Kept.mu.Lock()
	e := s.Kept.ends[id]
	s.Kept.mu.Unlock()
	f := s.stream(id, true)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ends != nil {
		return moss.Errorf(moss.Conflict, "streams are open already")
	}
	if e == nil {
		f.spec, f.sink, f.ends = spec, sink, &fakeEnds{}
		return moss.Errorf(moss.Internal, "the descriptor store does not have them")
	}
	for _, end := range []*os.File{e.out, e.err} {
		if end != nil {
			_ = end.SetReadDeadline(time.Time{}) // a pipe has deadlines
		}
	}
	f.beginLocked(spec, sink, e)
	return nil
}

// interrupt lets the pumps read what is there, and end.
func (f *fakeStream) interrupt(at time.Time) {
	f.mu.Lock()
	e := f.ends
	f.mu.Unlock()
	if e != nil && e.out != nil {
		_, _ = e.out.SetReadDeadline(at), e.err.SetReadDeadline(at)
	}
	f.pumps.Wait()
}

// end ends the attachments.
func (f *fakeStream) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.ended:
	default:
		close(f.ended)
	}
}

// drainTime is more than the pumps need for what is in the pipes.
const drainTime = 50 * time.Millisecond

// Finish implements engine.Stdio.
func (s *Stdio) Finish(_ context.Context, id moss.StreamID) error {
	f := s.stream(id, false)
	if f == nil {
		return nil
	}
	f.mu.Lock()
	e := f.ends
	f.mu.Unlock()
	if e == nil {
		return nil // clients wait for a run
	}
	if e.out != nil {
		_, _ = e.childOut.Close(), e.childErr.Close()
		f.interrupt(time.Now().Add(drainTime))
		e.close()
	}
	s.Kept.mu.Lock()
	delete(s.Kept.ends, id)
	s.Kept.mu.Unlock()
	f.mu.Lock()
	sink, keep := f.sink, f.waits
	f.sink = nil
	f.mu.Unlock()
	f.end()
	if !keep {
		s.forget(id, f)
	}
	if sink != nil {
		return sink.Close()
	}
	return nil
}

func (e *fakeEnds) close() {
	for _, end := range []*os.File{e.in, e.out, e.err, e.childIn, e.childOut, e.childErr} {
		if end != nil {
			_ = end.Close() // some are closed already
		}
	}
}

func (s *Stdio) forget(id moss.StreamID, f *fakeStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[id] == f {
		delete(s.streams, id)
	}
}

// Forget implements engine.Stdio.
func (s *Stdio) Forget(keep map[moss.StreamID]bool) error {
	s.Kept.mu.Lock()
	defer s.Kept.mu.Unlock()
	for id, e := range s.Kept.ends {
		if !keep[id] && s.stream(id, false) == nil {
			e.close()
			delete(s.Kept.ends, id)
		}
	}
	return nil
}
