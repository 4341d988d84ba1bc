package engine

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// EventHistory replays and follows events (pkg/events).
type EventHistory interface {
	Follow(ctx context.Context, since, until time.Time, fn func(moss.Event) error) error
}

// Host tells of the machine and of the storage (cmd/mossd).
type Host interface {
	Host(ctx context.Context) (moss.HostInfo, error)
	Storage() moss.StorageInfo
	// GoingDown says whether the holder of the namespaces is being stopped, and every container with it.
	GoingDown(ctx context.Context) bool
}

// System tells of the engine.
type System struct{ *Engine }

// System returns the service that tells of the engine.
func (e *Engine) System() System { return System{e} }

// Info returns the state of the engine.
func (s System) Info(ctx context.Context) (moss.Info, error) {
	host, err := s.Engine.Host.Host(ctx)
	if err != nil {
		return moss.Info{}, err
	}
	images, err := s.Engine.Images.List(ctx)
	if err != nil {
		return moss.Info{}, err
	}
	states := make(map[moss.State]int)
	for _, c := range s.all() {
		states[c.record().State]++
	}
	offer := s.offer()
	return moss.Info{
		Seccomp:  offer.Defaults.SeccompName,
		Registry: s.Registries.Info(),
		ID:       s.opts.ID, Host: host, Storage: s.Engine.Host.Storage(), Containers: states, Images: len(images),
		Started: s.born, DataRoot: s.opts.DataRoot, Runtimes: offer.Runtimes, Runtime: offer.Runtime, Labels: s.labels(), LogDriver: s.opts.LogConfig.Driver,
	}, nil
}

// Relabel gives the engine other labels.
func (e *Engine) Relabel(labels []string) { e.relabelled.Store(&labels) }

func (e *Engine) labels() []string {
	if l := e.relabelled.Load(); l != nil {
		return *l
	}
	return e.opts.Labels
}

// Events calls fn with events; see api's interface.
func (s System) Events(ctx context.Context, since, until time.Time, fn func(moss.Event) error) error {
	return s.History.Follow(ctx, since, until, fn)
}

// AwaitIdle returns when no container has a process any more, or ctx ends.
// Containers go down with the holder of the namespaces, side by side, each with
// its own stop signal and time; their ends are waited for, so that they are
// written down. It names those that are not.
func (e *Engine) AwaitIdle(ctx context.Context) (left []string) {
	for _, c := range e.all() {
		if _, err := c.await(ctx, func(s snapshot) bool { return s.removed || !s.rec.State.Alive() }); err != nil {
			left = append(left, c.record().Name)
		}
	}
	return left
}
