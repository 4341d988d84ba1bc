package api

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// restAfter is how long nobody asks anything before memory is given back.
const restAfter = time.Second

// rest gives back the memory that requests have used, once none is under way
// any more: the daemon is idle for most of its life.
type rest struct {
	free func()

	mu     sync.Mutex
	active int // requests under way
	conns  int // connections, but for those whose handler has taken them over
	last   time.Time
	timer  *time.Timer
}

func (r *rest) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active++
	if r.timer != nil {
		r.timer.Stop()
	}
}

func (r *rest) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	if r.active--; r.active > 0 {
		return
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(restAfter, r.free)
		return
	}
	r.timer.Reset(restAfter)
}

// connected counts connections; it is an http.Server's ConnState.
func (r *rest) connected(_ net.Conn, state http.ConnState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch state {
	case http.StateNew:
		r.conns++
	case http.StateClosed, http.StateHijacked: // a hijacked one is its request's
		r.conns--
	case http.StateActive, http.StateIdle:
		return
	}
	r.last = time.Now()
}

// Quiet says since when there has been neither a request nor a connection; false
// while there is one. The zero time means that there never was.
func (s *Server) Quiet() (since time.Time, quiet bool) {
	r := &s.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.active == 0 && r.conns == 0
}
