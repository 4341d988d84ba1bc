package stdio

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// phase is where a stream is in its life; only to changes it.
type phase uint8

const (
	waiting  phase = iota // clients may be there, the process is not
	running               // Open or Restore
	draining              // Finish: the process has ended
	finished              // nothing comes any more
)

// stream are the standard streams of one run.
type stream struct {
	hub *Hub
	id  moss.StreamID

	ready chan struct{} // closed when input can be written: our ends are there
	ended chan struct{} // closed with phase finished
	pumps sync.WaitGroup

	mu      sync.Mutex
	phase   phase
	spec    moss.StdioSpec
	sink    moss.LogSink
	ends    *ends
	failed  error // why our ends are not there
	boxes   map[*outbox]bool
	early   *outbox // OneClient: what the first client will get
	pumpErr error   // the first
}

func newStream(h *Hub, id moss.StreamID) *stream {
	return &stream{hub: h, id: id, ready: make(chan struct{}), ended: make(chan struct{}), boxes: map[*outbox]bool{}}
}

// claim and unclaim are called with the hub's lock held.
func (s *stream) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != waiting {
		return false
	}
	s.phase = running
	return true
}

// unclaim says whether nobody waits for the stream.
func (s *stream) unclaim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = waiting
	return len(s.boxes) == 0
}

// begin starts the pumps.
func (s *stream) begin(spec moss.StdioSpec, sink moss.LogSink, e *ends) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spec, s.sink, s.ends = spec, sink, e
	if !spec.OneClient {
		for b := range s.boxes {
			b.spillTo(s.hub.disk())
		}
	}
	if spec.OneClient && len(s.boxes) == 0 {
		s.early = newOutbox()
		s.boxes[s.early] = true
	}
	if e.console != nil {
		s.pumps.Go(func() { s.awaitTerminal(e.console) })
		return
	}
	s.pumpLocked()
	close(s.ready)
}

// awaitTerminal receives the terminal and goes on with it.
func (s *stream) awaitTerminal(c *console) {
	tty, err := c.receive()
	if err == nil {
		s.mu.Lock()
		persist, e := s.spec.Persist, s.ends
		s.mu.Unlock()
		if persist { // Finish waits for this goroutine and only then empties the store
			err = s.hub.put(s.id, e, endTTY, tty)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.phase != running {
		err = errors.New("the process has ended")
	}
	if err != nil && tty != nil {
		err = errors.Join(err, tty.Close())
	}
	if err == nil {
		s.ends.tty = tty
		if s.spec.Stdin {
			s.ends.in = tty
		}
		err = setSize(tty, s.spec.Size)
		s.pumpLocked()
	}
	s.failed = err
	close(s.ready)
}

// waitEnds returns when our ends are there.
func (s *stream) waitEnds(ctx context.Context) error {
	select {
	case <-s.ready:
	case <-s.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *stream) persists() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec.Persist
}

func (s *stream) started() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase != waiting
}

func (s *stream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase == finished
}

// drain lets the pumps read what is left and waits for them. Clients do not
// hold them up any more.
func (s *stream) drain(ctx context.Context) error {
	s.mu.Lock()
	if s.phase == running && s.ends != nil {
		s.phase = draining
		if s.ends.console != nil {
			s.ends.console.close()
		}
		for _, p := range []*source{s.ends.out, s.ends.err} {
			if p != nil {
				p.interrupt()
			}
		}
		if s.ends.tty != nil {
			interrupt(s.ends.tty)
		}
		for b := range s.boxes {
			b.unbound()
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.pumps.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeEnds closes our ends and the sink once the pumps have ended.
func (s *stream) closeEnds() (stored []string, err error) {
	s.mu.Lock()
	e, sink := s.ends, s.sink
	err = s.pumpErr
	s.ends, s.sink, s.pumpErr = nil, nil, nil
	s.mu.Unlock()
	if e != nil {
		stored = e.stored
		err = errors.Join(err, e.close())
	}
	if sink != nil {
		err = errors.Join(err, sink.Close())
	}
	return stored, err
}

// end ends the attachments. It says whether output is kept for a client that
// is still to come.
func (s *stream) end() (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != finished {
		s.phase = finished
		close(s.ended)
	}
	for b := range s.boxes {
		b.end()
	}
	return s.early != nil
}

// closeInput ends the process's input. It must leave the store too: the
// process sees the end when the last copy is closed.
func (s *stream) closeInput() {
	s.mu.Lock()
	if s.ends == nil || s.ends.in == nil || s.ends.in == s.ends.tty {
		s.mu.Unlock()
		return
	}
	in := s.ends.in
	s.ends.in = nil
	stored := slices.Contains(s.ends.stored, endIn)
	s.ends.stored = slices.DeleteFunc(s.ends.stored, func(end string) bool { return end == endIn })
	s.mu.Unlock()
	_ = in.Close() // nothing was buffered
	if stored {
		if err := s.hub.store.Remove(string(s.id) + endIn); err != nil {
			s.pumpFailed(fmt.Errorf("cannot end the input: %w", err))
		}
	}
}

// resize sets the size of the terminal, or notes it for one that is to come.
func (s *stream) resize(size moss.TermSize) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.phase != running || !s.spec.TTY:
		return errNoTerminal(s.id)
	case s.ends == nil || s.ends.tty == nil:
		s.spec.Size = size
		return nil
	default:
		return moss.Wrap(setSize(s.ends.tty, size), "resize the terminal of", short(s.id))
	}
}

func errNoTerminal(id moss.StreamID) error {
	return moss.Errorf(moss.Conflict, "cannot resize %s: it has no terminal", short(id))
}
