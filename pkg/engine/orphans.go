package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/moss-containers/moss/pkg/moss"
)

// removeOrphans stops units and deletes layers that no record speaks of.
func (e *Engine) removeOrphans(ctx context.Context, records []*moss.Container, bad map[string]error, units map[string]moss.UnitStatus) {
	known := make(map[moss.ContainerID]bool, len(records)+len(bad))
	for _, rec := range records {
		known[rec.ID] = true
		for _, layer := range mountedLayers(rec) {
			known[layer] = true
		}
		delete(units, rec.ID.Short())
	}
	for key := range bad {
		known[moss.ContainerID(key)] = true
	}
	for short, st := range units {
		e.Log.Warn("a container unit has no record; it is stopped", "unit", short, "phase", st.Phase.String())
		if err := e.Units.Collect(ctx, moss.ContainerID(short)); err != nil {
			e.Log.Error("an orphaned unit could not be stopped", "unit", short, "error", err)
		}
	}
	if late, ok := e.Rootfs.(LateRootfs); ok {
		late.WhenOpen(func(ctx context.Context, r Rootfs) { e.removeOrphanLayers(ctx, r, known) })
	} else {
		e.removeOrphanLayers(ctx, e.Rootfs, known)
	}
	e.removeOrphanDirs(known)
}

func (e *Engine) removeOrphanLayers(ctx context.Context, r Rootfs, known map[moss.ContainerID]bool) {
	layers, err := r.List(ctx)
	if err != nil {
		e.Log.Error("the containers' layers cannot be listed", "error", err)
	}
	for _, id := range layers {
		if known[id] {
			continue
		}
		e.Log.Warn("a container's layer has no record; it is deleted", "container", id.Short())
		if err := r.Remove(ctx, id); err != nil {
			e.Log.Error("an orphaned layer could not be deleted", "container", id.Short(), "error", err)
		}
	}
}

// idRule tells a container's directory from what somebody else put beside it.
var idRule = regexp.MustCompile(`^[0-9a-f]{64}$`)

// removeOrphanDirs deletes the directories of containers whose making was cut short.
func (e *Engine) removeOrphanDirs(known map[moss.ContainerID]bool) {
	entries, err := os.ReadDir(e.opts.ContainersDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.Log.Error("the containers' directories cannot be listed", "error", err)
	}
	for _, d := range entries {
		id := moss.ContainerID(d.Name())
		if known[id] || !idRule.MatchString(d.Name()) {
			continue
		}
		e.Log.Warn("a container's directory has no record; it is deleted", "container", id.Short())
		if err := os.RemoveAll(filepath.Join(e.opts.ContainersDir, d.Name())); err != nil {
			e.Log.Error("an orphaned directory could not be deleted", "container", id.Short(), "error", err)
		}
	}
}
