package logs

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// ring lets output wait in memory for a slow driver, up to a size. What does not
// fit is dropped, in whole lines, and the log says how much that was.
type ring struct {
	to  moss.LogSink
	max int64

	mu     sync.Mutex
	queue  []ringEntry
	size   int64
	torn   [3]bool // by stream: what comes continues a line that was dropped
	open   [3]bool // by stream: what was taken last does not end its line
	lines  int     // dropped since the log was told
	bytes  int64
	closed bool
	filled *sync.Cond
	ended  chan error
}

type ringEntry struct {
	kind moss.StreamKind
	at   time.Time
	text []byte
}

func newRing(to moss.LogSink, size int64) *ring {
	r := &ring{to: to, max: size, ended: make(chan error, 1)}
	r.filled = sync.NewCond(&r.mu)
	go r.run()
	return r
}

// Write takes the chunk or drops it; it never waits for the driver.
func (r *ring) Write(kind moss.StreamKind, at time.Time, p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	if r.torn[kind] {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		r.bytes += int64(n)
		r.torn[kind] = p[n-1] != '\n'
		p = p[n:]
	}
	if len(p) == 0 {
		return nil
	}
	// One chunk always fits, as with docker: a small ring is no stopped one.
	if r.size > 0 && r.size+int64(len(p)) > r.max {
		r.dropLocked(kind, p)
		return nil
	}
	r.open[kind] = p[len(p)-1] != '\n'
	r.pushLocked(ringEntry{kind, at, bytes.Clone(p)})
	return nil
}

// dropLocked ends the line that was begun, so that no other continues it.
func (r *ring) dropLocked(kind moss.StreamKind, p []byte) {
	r.lines += max(1, bytes.Count(p, []byte("\n")))
	r.bytes += int64(len(p))
	r.torn[kind] = p[len(p)-1] != '\n'
	if r.open[kind] {
		r.open[kind] = false
		r.pushLocked(ringEntry{kind, time.Now(), []byte("\n")})
	}
}

func (r *ring) pushLocked(e ringEntry) {
	r.queue = append(r.queue, e)
	r.size += int64(len(e.text))
	r.filled.Signal()
}

// run writes what is in the ring until it is closed and empty.
func (r *ring) run() {
	var failed error
	for {
		queue, more := r.take()
		for _, e := range queue {
			if err := r.to.Write(e.kind, e.at, e.text); err != nil && failed == nil {
				failed = err
			}
			r.mu.Lock()
			r.size -= int64(len(e.text))
			r.mu.Unlock()
		}
		if !more {
			r.ended <- failed
			return
		}
	}
}

// take waits for entries; false when no more will come.
func (r *ring) take() ([]ringEntry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) == 0 && !r.noticeLocked() && !r.closed {
		r.filled.Wait()
	}
	queue := r.queue
	r.queue = nil
	if r.noticeLocked() {
		text := fmt.Sprintf("moss: %d lines, %d bytes were dropped here: the log is slower than the container, and its mode is non-blocking\n", r.lines, r.bytes)
		queue = append(queue, ringEntry{moss.Stderr, time.Now(), []byte(text)})
		r.size += int64(len(text))
		r.lines, r.bytes = 0, 0
	}
	return queue, !r.closed || len(queue) > 0
}

// noticeLocked says that something was dropped and not told, and can be told:
// not in the middle of a line.
func (r *ring) noticeLocked() bool {
	return r.bytes > 0 && (!r.open[moss.Stderr] || r.closed)
}

// Close waits for what is in the ring and closes the driver's sink.
func (r *ring) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.filled.Broadcast()
	r.mu.Unlock()
	err := <-r.ended
	if cerr := r.to.Close(); err == nil {
		err = cerr
	}
	return err
}
