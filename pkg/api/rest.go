package api

import (
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
	active int
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
	if r.active--; r.active > 0 {
		return
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(restAfter, r.free)
		return
	}
	r.timer.Reset(restAfter)
}
