package image

import (
	"context"
	"slices"
	"sync"
)

// holds keep layers from being removed while an image is made of them or read.
// A layer is either held or going, never both.
type holds struct {
	mu    sync.Mutex
	held  map[string]int           // by layer id: how often
	going map[string]chan struct{} // being removed; closed when that is over
}

func newHolds() *holds {
	return &holds{held: map[string]int{}, going: map[string]chan struct{}{}}
}

// hold keeps layers from removal, whether they are there or not, until release
// is called. One that is being removed right now is waited for, and is gone
// then: hold first, then look what is there.
func (h *holds) hold(ctx context.Context, layers ...string) (release func(), err error) {
	for {
		wait := h.tryHold(layers)
		if wait == nil {
			return sync.OnceFunc(func() { h.release(layers) }), nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return func() {}, ctx.Err()
		}
	}
}

func (h *holds) tryHold(layers []string) (wait <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range layers {
		if gone, ok := h.going[l]; ok {
			return gone
		}
	}
	for _, l := range layers {
		h.held[l]++
	}
	return nil
}

func (h *holds) release(layers []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range layers {
		if h.held[l]--; h.held[l] == 0 {
			delete(h.held, l)
		}
	}
}

// take lets one remove a layer that nobody holds or removes; done is called after it.
func (h *holds) take(layer string) (done func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[layer] > 0 || h.going[layer] != nil {
		return nil, false
	}
	gone := make(chan struct{})
	h.going[layer] = gone
	return func() {
		h.mu.Lock()
		delete(h.going, layer)
		h.mu.Unlock()
		close(gone)
	}, true
}

// isHeld tells whether a layer is held.
func (h *holds) isHeld(layer string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[layer] > 0
}

// hold keeps layers from Delete, Collect and whatever else removes them.
func (s *Store) hold(ctx context.Context, layers ...string) (release func(), err error) {
	return s.holds.hold(ctx, slices.Clone(layers)...)
}
