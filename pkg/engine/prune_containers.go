package engine

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Prune removes the containers that do not run and that the filter chooses. One
// that cannot be removed stops no other. What was done before ctx ended is
// returned with its error.
func (s Containers) Prune(ctx context.Context, f moss.PruneFilter) (moss.ContainersPruned, error) {
	var pruned moss.ContainersPruned
	for _, c := range s.all() {
		if ctx.Err() != nil {
			break
		}
		if !prunesContainer(f, c) {
			continue
		}
		freed, removed, err := s.pruneOne(ctx, c, f)
		if err != nil {
			s.Log.Warn("a container could not be pruned", "container", c.record().Name, "error", err)
		}
		if removed {
			pruned.Removed = append(pruned.Removed, c.id)
			pruned.Reclaimed += freed
		}
	}
	s.Engine.Events.Publish(moss.Event{
		Type: moss.ContainerEvent, Action: "prune", Time: time.Now(),
		Attributes: map[string]string{"reclaimed": strconv.FormatInt(pruned.Reclaimed, 10)},
	})
	return pruned, ctx.Err()
}

// pruneOne removes one container, if it still is one to prune when its turn comes.
func (s Containers) pruneOne(ctx context.Context, c *container, f moss.PruneFilter) (freed int64, removed bool, err error) {
	freed, err = s.Files.Written(ctx, c.id)
	if err != nil && moss.ClassOf(err) != moss.NotFound {
		s.Log.Warn("what a container wrote could not be measured", "container", c.record().Name, "error", err)
	}
	if err := c.acquire(ctx); err != nil {
		return 0, false, err
	}
	defer c.release()
	if c.isRemoved() || c.isRead() || !prunesContainer(f, c) {
		return 0, false, nil
	}
	if err := s.remove(context.WithoutCancel(ctx), c); err != nil { // once begun it is finished
		return 0, false, err
	}
	return freed, true, nil
}

// prunesContainer says whether a filter chooses a container. What waits for its
// restart, or is kept for one, is as good as running.
func prunesContainer(f moss.PruneFilter, c *container) bool {
	rec := c.record()
	labels := rec.Config.Labels
	switch {
	case rec.State.Alive(), rec.State == moss.StateRestarting, c.kept():
	case !f.Until.IsZero() && rec.Created.After(f.Until):
	case !hasLabels(labels, f.Labels):
	case slices.ContainsFunc(f.NotLabel, func(l string) bool { return hasLabels(labels, []string{l}) }):
	default:
		return true
	}
	return false
}
