package fake

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var (
	_ engine.Events       = (*Events)(nil)
	_ engine.EventHistory = (*Events)(nil)
)

// Events keeps every event.
type Events struct {
	mu  sync.Mutex
	all []moss.Event
}

// Publish implements engine.Events.
func (e *Events) Publish(ev moss.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

// Follow implements engine.EventHistory, for the past alone.
func (e *Events) Follow(_ context.Context, since, until time.Time, fn func(moss.Event) error) error {
	e.mu.Lock()
	all := slices.Clone(e.all)
	e.mu.Unlock()
	for _, ev := range all {
		if ev.Time.Before(since) || !until.IsZero() && ev.Time.After(until) {
			continue
		}
		if err := fn(ev); err != nil {
			return err
		}
	}
	return nil
}

// Of returns the events of one actor.
func (e *Events) Of(actor string) []moss.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.all), func(ev moss.Event) bool { return ev.ActorID != actor })
}

// Actions returns the actions of one actor's events.
func (e *Events) Actions(actor string) []string {
	var all []string
	for _, ev := range e.Of(actor) {
		all = append(all, ev.Action)
	}
	return all
}
