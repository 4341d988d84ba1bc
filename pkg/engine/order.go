package engine

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// leansOn are the containers without which another one cannot start: those whose
// namespaces it joins, and those that it is linked to.
func leansOn(rec *moss.Container) []moss.ContainerID {
	out := needs(rec)
	if bridged(rec.Host.NetworkMode) {
		for _, l := range rec.Host.Links {
			out = append(out, moss.ContainerID(l.Container))
		}
	}
	return out
}

// startOrder says for each container which of the others come before it: what it
// leans on, whose volumes it takes, and what compose says. find resolves a
// name. Where they go round in a circle, which labels and names can, the circle
// is opened at the oldest.
func startOrder(all []*moss.Container, find func(ref string) (moss.ContainerID, bool)) map[moss.ContainerID][]moss.ContainerID {
	there := make(map[moss.ContainerID]*moss.Container, len(all))
	services := map[service][]moss.ContainerID{}
	for _, rec := range all {
		there[rec.ID] = rec
		services[serviceOf(rec)] = append(services[serviceOf(rec)], rec.ID)
	}
	wanted := func(rec *moss.Container) []moss.ContainerID {
		ids := leansOn(rec)
		for _, from := range rec.Host.VolumesFrom {
			if id, ok := find(from.Container); ok {
				ids = append(ids, id)
			}
		}
		for _, d := range dependsOn(rec) {
			ids = append(ids, services[d.service]...)
		}
		return ids
	}

	before := make(map[moss.ContainerID][]moss.ContainerID, len(all))
	const open, done = 1, 2
	state := make(map[moss.ContainerID]int, len(all))
	var visit func(rec *moss.Container)
	visit = func(rec *moss.Container) {
		state[rec.ID] = open
		for _, id := range wanted(rec) {
			other := there[id]
			if other == nil || state[id] == open || slices.Contains(before[rec.ID], id) {
				continue
			}
			if state[id] == 0 {
				visit(other)
			}
			before[rec.ID] = append(before[rec.ID], id)
		}
		state[rec.ID] = done
	}
	oldest := slices.Clone(all)
	slices.SortFunc(oldest, func(a, b *moss.Container) int {
		if d := a.Created.Compare(b.Created); d != 0 {
			return d
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	for _, rec := range oldest {
		if state[rec.ID] == 0 {
			visit(rec)
		}
	}
	return before
}

// reviveAll starts containers again in the background, each after those among
// them that it depends on, and when those that its compose file wants to be more
// than started are so.
func (e *Engine) reviveAll(all []*container) {
	done := make(map[moss.ContainerID]*sync.WaitGroup, len(all))
	recs := make([]*moss.Container, len(all))
	for i, c := range all {
		done[c.id] = new(sync.WaitGroup)
		done[c.id].Add(1)
		recs[i] = c.record()
	}
	before := startOrder(recs, func(ref string) (moss.ContainerID, bool) {
		c, err := e.find(ref)
		if err != nil {
			return "", false
		}
		return c.id, true
	})
	for _, c := range all {
		e.spawn(func(ctx context.Context) {
			defer done[c.id].Done()
			for _, id := range before[c.id] {
				done[id].Wait()
			}
			for _, d := range dependsOn(c.record()) {
				e.awaitService(ctx, c, d, func(id moss.ContainerID) bool { // a circle is open here
					return done[id] != nil && !slices.Contains(before[c.id], id)
				})
			}
			e.revive(ctx, c)
		})
	}
}

// awaitSupport waits while a container whose restart is due leans on one that
// waits for its own. False means that the restart is off.
func (e *Engine) awaitSupport(ctx context.Context, c *container) bool {
	for {
		s := c.snapshot()
		if s.removed || s.rec.State != moss.StateRestarting {
			return false
		}
		var busy <-chan struct{}
		for _, id := range leansOn(s.rec) {
			e.mu.RLock()
			other := e.containers[id]
			e.mu.RUnlock()
			if other == nil {
				continue
			}
			if o := other.snapshot(); !o.removed && o.rec.State == moss.StateRestarting {
				busy = o.changed
				break
			}
		}
		if busy == nil {
			return true
		}
		select {
		case <-busy:
		case <-s.changed:
		case <-ctx.Done():
			return false
		}
	}
}
