package stdio

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
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
	for _, f := range []*os.File{s.ends.tty, s.ends.in} {
		if f != nil {
			_ = f.Close() // ends pumps without draining
		}
	}
	for _, p := range []*source{s.ends.out, s.ends.err} {
		if p != nil {
			p.kill()
		}
	}
	s.mu.Unlock()
	s.pumps.Wait()
	s.end()
}

// SendTerminal plays the runtime at a console socket.
var SendTerminal = sendTerminal

// kill closes the pipe below its pump, or has nothing in its place.
func (s *source) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hot() {
		_ = s.file.Close()
		return
	}
	if null, err := os.Open(os.DevNull); err == nil {
		_ = control(null, func(fd int) error { return unix.Dup3(fd, s.fd, unix.O_CLOEXEC) })
		_ = null.Close()
	}
	s.over = true
	interrupt(s.clock)
}
