// Package events is the engine's ordered bus of events: a ring holds the
// latest for since=, files those of earlier daemons too, and each subscriber has
// a bounded queue; one that is too slow is cut off rather than waited for.
package events

import (
	"context"
	"errors"
	"slices"
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

// Bus distributes events. The zero value is ready, and keeps nothing over a restart.
type Bus struct {
	mu   sync.Mutex
	ring []moss.Event
	next int       // where in the ring the next event goes, once it is full
	lost time.Time // of the latest event that the ring has no more
	subs map[chan moss.Event]struct{}
	disk *disk // nil where nothing is kept, or cannot be any more
	born time.Time
	fail func(error)
}

// Open makes a bus that keeps events in the file path and its older companion
// path.1. Where writing fails later, fail is told, and from then on the history
// is what is in memory.
func Open(path string, fail func(error)) (*Bus, error) {
	d, err := openDisk(path)
	if err != nil {
		return nil, moss.Wrap(err, "keep events in", path)
	}
	return &Bus{disk: d, born: time.Now(), fail: fail}, nil
}

// Close closes the files.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.disk
	b.disk = nil
	if d == nil {
		return nil
	}
	return d.file.Close()
}

// Publish gives an event to every subscriber, in the order of the calls. It
// never waits. An event without a time gets the present one.
func (b *Bus) Publish(e moss.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	b.keepLocked(e)
	if len(b.ring) < ringSize {
		b.ring = append(b.ring, e)
	} else {
		if t := b.ring[b.next].Time; t.After(b.lost) {
			b.lost = t
		}
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

// keepLocked writes an event to the disk.
func (b *Bus) keepLocked(e moss.Event) {
	if b.disk == nil {
		return
	}
	if err := b.disk.write(e); err != nil {
		_ = b.disk.file.Close() // what it has is left as it is
		b.disk = nil
		b.fail(moss.Wrap(err, "keep events over a restart", ""))
	}
}

// Follow calls fn with the kept events from since on (none where since is zero),
// then with each new one, until until (zero: for ever) has passed, ctx ends (nil)
// or fn fails. Nothing is missed or repeated between the two. The kept ones are in
// the order of their times, and that is not the order they were published in where
// a restore told what had happened before it.
func (b *Bus) Follow(ctx context.Context, since, until time.Time, fn func(moss.Event) error) error {
	ch := make(chan moss.Event, queueSize)
	past, history := b.subscribe(ch, since)
	defer b.unsubscribe(ch)
	if history != nil {
		keep := func(e moss.Event) error { past = append(past, e); return nil }
		if err := errors.Join(history.read(since, keep), history.close()); err != nil {
			return err
		}
	}
	slices.SortStableFunc(past, func(a, b moss.Event) int { return a.Time.Compare(b.Time) })
	for _, e := range past {
		if !until.IsZero() && e.Time.After(until) {
			break
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	past = nil // a subscription may last
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

// subscribe returns what was before: in files that are yet to be read, or where
// those cannot be had in a list.
func (b *Bus) subscribe(ch chan moss.Event, since time.Time) ([]moss.Event, *past) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[chan moss.Event]struct{})
	}
	b.subs[ch] = struct{}{}
	if since.IsZero() {
		return nil, nil
	}
	if b.disk != nil && !b.coversLocked(since) {
		if history, err := b.disk.past(); err == nil {
			return nil, history
		}
	}
	var past []moss.Event
	for i := range b.ring {
		if e := b.ring[(b.next+i)%len(b.ring)]; !e.Time.Before(since) {
			past = append(past, e)
		}
	}
	return past, nil
}

// coversLocked says whether the ring has all that happened since.
func (b *Bus) coversLocked(since time.Time) bool {
	return !since.Before(b.born) && since.After(b.lost)
}

func (b *Bus) unsubscribe(ch chan moss.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, ch)
}
