package api

import (
	"net"
	"net/http"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Memory is given back when nobody has asked anything for restAfter, where there
// is as much of it as restWorth; what is less waits for restLong. For a
// collection and the pages that the next request has to get again cost as much
// processor time as a third of a container's start, and clients come in turns.
const (
	restAfter = time.Second
	restLong  = 10 * time.Second
	restWorth = 2 << 20 // bytes
)

// rest gives back the memory that requests have used, once none is under way
// any more: the daemon is idle for most of its life.
type rest struct {
	free  func()
	spare func() uint64 // bytes that free would give back, about

	mu     sync.Mutex
	active int // requests under way
	conns  int // connections, but for those whose handler has taken them over
	last   time.Time
	timer  *time.Timer
	turn   int // counts the requests that have begun
}

func newRest() rest { return rest{free: debug.FreeOSMemory, spare: spareMemory} }

func (r *rest) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active++
	r.turn++
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
}

func (r *rest) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	if r.active--; r.active > 0 {
		return
	}
	turn := r.turn
	r.timer = time.AfterFunc(restAfter, func() { r.look(turn) })
}

// look is called when nobody has asked anything since a turn.
func (r *rest) look(turn int) {
	if r.spare() >= restWorth {
		r.free()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turn == turn {
		r.timer = time.AfterFunc(restLong-restAfter, r.free)
	}
}

// spareMemory is what of the heap is garbage, or free and not given back.
func spareMemory() uint64 {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	objects, live, free := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
	return free + objects - min(live, objects)
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
