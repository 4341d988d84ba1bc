package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// Activator holds ports in memory.
type Activator struct {
	mu   sync.Mutex
	held map[string]moss.HeldPorts
}

// Hold implements engine.Activator.
func (a *Activator) Hold(_ context.Context, h moss.HeldPorts) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for short, other := range a.held {
		for _, p := range other.Ports {
			for _, q := range h.Ports {
				if short != h.ID.Short() && p.HostPort == q.HostPort && p.HostIP == q.HostIP {
					return moss.Errorf(moss.Conflict, "failed to bind host port %s: address already in use", fmt.Sprint(q.HostPort))
				}
			}
		}
	}
	if a.held == nil {
		a.held = map[string]moss.HeldPorts{}
	}
	a.held[h.ID.Short()] = h
	return nil
}

// Release implements engine.Activator.
func (a *Activator) Release(_ context.Context, id moss.ContainerID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.held, id.Short())
	return nil
}

// Held implements engine.Activator.
func (a *Activator) Held(context.Context) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.held)), nil
}
