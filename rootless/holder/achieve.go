package holder

import (
	"sync"
	"time"
)

// achievement is something that is done once. What has failed is tried again,
// though not for a while; who comes while somebody tries has the same answer.
type achievement struct {
	try   func() error
	told  func(error) // of the first failure, and of nil where it works after that
	pause time.Duration

	mu     sync.Mutex
	done   bool
	failed time.Time     // zero for never
	trying chan struct{} // closed when that is over; nil for nobody tries
}

// sourcePause is how long connections come from our own address before it is
// tried again to keep their clients'.
const sourcePause = 10 * time.Second

func (a *achievement) ok() bool {
	a.mu.Lock()
	switch {
	case a.done || a.trying == nil && !a.failed.IsZero() && time.Since(a.failed) < a.pause:
		defer a.mu.Unlock()
		return a.done
	case a.trying != nil:
		over := a.trying
		a.mu.Unlock()
		<-over
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.done
	}
	over := make(chan struct{})
	a.trying = over
	a.mu.Unlock()
	err := a.try()
	a.mu.Lock()
	defer a.mu.Unlock()
	if (err != nil) == a.failed.IsZero() {
		a.told(err)
	}
	if a.done = err == nil; !a.done {
		a.failed = time.Now()
	}
	a.trying = nil
	close(over)
	return a.done
}
