// Package events is the engine's ordered bus of events: a ring holds the
// latest for since=, and each subscriber has a bounded queue; one that is too
// slow is cut off rather than waited for.
package events

import (
	"context"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// ringSize is how many past events are kept; docker keeps 256.
const ringSize = 1024

// queueSize is how far behind a subscriber may fall.
const queueSize = 1024

// ErrSlow ends a subscription whose reader fell too far behind.
var ErrSlow = moss.Errorf(moss.Unavailable, "the reader of events was too slow and has missed some")

// Bus distributes events. The zero value is ready.
type Bus struct {
	mu   sync.Mutex
	ring []moss.Event
	next int // where in the ring the next event goes, once it is full
	subs map[chan moss.Event]struct{}
}

// Publish gives an event to every subscriber, in the order of the calls. It
// never waits. An event without a time gets the present one.
func (b *Bus) Publish(e moss.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if len(b.ring) < ringSize {
		b.ring = append(b.ring, e)
	} else {
		b.ring[b.next] = e
		b.next = (b.next + 1) % ringSize
	}
	for ch := range b.subs {
		select {
		case ch <- e:
		default:
			delete(b.subs, ch)
			close(ch)
		}
	}
}

// Follow calls fn with the kept events from since on (none where since is
// zero), then with each new one, until until (zero: for ever) has passed, ctx
// ends (nil) or fn fails. Nothing is missed or repeated between the two.
func (b *Bus) Follow(ctx context.Context, since, until time.Time, fn func(moss.Event) error) error {
	ch := make(chan moss.Event, queueSize)
	past := b.subscribe(ch, since)
	defer b.unsubscribe(ch)
	for _, e := range past {
		if !until.IsZero() && e.Time.After(until) {
			continue // their order is that of the telling: what happened before may come yet
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	var deadline <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		deadline = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-deadline:
			return nil
		case e, ok := <-ch:
			if !ok {
				return ErrSlow
			}
			if err := fn(e); err != nil {
				return err
			}
		}
	}
}

func (b *Bus) subscribe(ch chan moss.Event, since time.Time) []moss.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[chan moss.Event]struct{})
	}
	b.subs[ch] = struct{}{}
	if since.IsZero() {
		return nil
	}
	var past []moss.Event
	for i := range b.ring {
		if e := b.ring[(b.next+i)%len(b.ring)]; !e.Time.Before(since) {
			past = append(past, e)
		}
	}
	return past
}

func (b *Bus) unsubscribe(ch chan moss.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, ch)
}
