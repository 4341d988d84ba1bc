package logs

import (
	"bytes"
	"errors"
	"sync"
	"time"
)

// queue lets messages wait in memory for a server that is slow or away, and
// sends them in the background, trying again where that fails.
type queue struct {
	to       sender
	max      int64
	drops    bool // a full queue drops at once; else its writer waits for a while
	attempts int
	retry    time.Duration // the first wait; it grows
	patience time.Duration // of a writer

	mu      sync.Mutex
	waiting []message
	size    int64
	closed  bool
	stalled bool // a writer has waited in vain: the next does not, until something is sent
	filled  chan struct{}
	room    chan struct{}
	closing chan struct{}
	ended   chan struct{}
	failed  error // why messages were given up
}

var errQueueFull = errors.New("the log server is too slow or away, and the buffer is full: output is dropped")

// closePatience bounds how long the end of a run waits for its log server.
const closePatience = 5 * time.Second

func newQueue(q *queue) *queue {
	q.filled, q.room = make(chan struct{}, 1), make(chan struct{}, 1)
	q.closing, q.ended = make(chan struct{}), make(chan struct{})
	go q.run()
	return q
}

func (q *queue) send(ms []message) error {
	var size int64
	for i := range ms {
		ms[i].text = bytes.Clone(ms[i].text)
		size += int64(len(ms[i].text)) + 64
	}
	var patience <-chan time.Time
	for {
		err := q.put(ms, size)
		if err != errQueueFull || q.drops { //nolint:errorlint // joined with another it says that waiting is in vain
			return err
		}
		if patience == nil {
			t := time.NewTimer(q.patience)
			defer t.Stop()
			patience = t.C
		}
		select {
		case <-q.room:
		case <-patience:
			q.mu.Lock()
			q.stalled = true
			q.mu.Unlock()
			return err
		}
	}
}

// put takes messages where there is room, or drops them where waiting is of no use.
func (q *queue) put(ms []message, size int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return errClosed
	case q.size > 0 && q.size+size > q.max && q.stalled:
		return errors.Join(errQueueFull, q.failed) // another value than errQueueFull also where nothing failed
	case q.size > 0 && q.size+size > q.max:
		return errQueueFull
	}
	q.waiting = append(q.waiting, ms...)
	q.size += size
	wake(q.filled)
	return nil
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (q *queue) run() {
	defer close(q.ended)
	for {
		q.mu.Lock()
		ms, closed := q.waiting, q.closed
		q.waiting = nil
		q.mu.Unlock()
		if len(ms) == 0 {
			if closed {
				return
			}
			select {
			case <-q.filled:
			case <-q.closing:
			}
			continue
		}
		err := q.deliver(ms)
		q.mu.Lock()
		for i := range ms {
			q.size -= int64(len(ms[i].text)) + 64
		}
		if q.stalled = q.stalled && err != nil; err != nil {
			q.failed = err
		}
		q.mu.Unlock()
		wake(q.room)
	}
}

// deliver sends until that succeeds or the attempts are used up; there is one
// more when the queue is closed.
func (q *queue) deliver(ms []message) error {
	wait, last := q.retry, false
	for n := 0; ; n++ {
		err := q.to.send(ms)
		if err == nil || last || n >= q.attempts {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-q.closing:
			last = true
		}
		t.Stop()
		wait = min(wait+wait/2, maxBackOff)
	}
}

// Close sends what waits, but does not wait long for that.
func (q *queue) Close() error {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return nil
	}
	q.closed = true
	close(q.closing)
	q.mu.Unlock()
	select {
	case <-q.ended:
		return errors.Join(q.failed, q.to.Close())
	case <-time.After(closePatience):
		go func() {
			<-q.ended
			_ = q.to.Close() // nobody is there to be told
		}()
		return errQueueFull
	}
}
