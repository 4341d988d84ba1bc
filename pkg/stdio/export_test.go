package stdio

import (
	"os"
	"testing"
)

// NewTestHub returns a Hub with a manager in memory.
func NewTestHub(t testing.TB) *Hub { return newHub(t, newMemStore()) }

// Kill ends a Hub as kill -9 of its daemon does, and returns that of the next
// daemon.
func Kill(t testing.TB, h *Hub) *Hub {
	t.Helper()
	next := h.store.(*memStore).restart()
	h.mu.Lock()
	streams := h.streams
	h.mu.Unlock()
	for _, s := range streams {
		s.kill()
	}
	h2, err := New(Config{Dir: h.cfg.Dir, Console: h.cfg.Console, Store: next})
	if err != nil {
		t.Fatal(err)
	}
	return h2
}

func (s *stream) kill() {
	s.mu.Lock()
	for _, f := range []*os.File{s.ends.out, s.ends.err, s.ends.tty, s.ends.in} {
		if f != nil {
			_ = f.Close() // ends pumps without draining
		}
	}
	s.mu.Unlock()
	s.pumps.Wait()
	s.end()
}

// SendTerminal plays the runtime at a console socket.
var SendTerminal = sendTerminal
