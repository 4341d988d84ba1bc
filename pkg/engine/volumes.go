package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// VolumeService keeps volumes and tells who uses them.
type VolumeService struct{ *Engine }

// VolumeService returns the service of volumes.
func (e *Engine) VolumeService() VolumeService { return VolumeService{e} }

// Create makes a volume; one of that name is it already.
func (s VolumeService) Create(ctx context.Context, r moss.VolumeRequest) (moss.Volume, error) {
	if r.Name == "" {
		r.Labels = anonymous(r.Labels)
	}
	v, created, err := s.Volumes.Create(ctx, r)
	if err == nil && created {
		s.publishVolume(v.Name, "create", "driver", v.Driver)
	}
	return v, err
}

// Get finds a volume by name, as its driver tells it. Errors: NotFound, Unavailable.
func (s VolumeService) Get(ctx context.Context, name string) (moss.Volume, error) {
	return s.VolumeDrivers.Look(ctx, name)
}

// List returns the volumes that a filter chooses, by name, and a warning for each
// driver that cannot be asked.
func (s VolumeService) List(ctx context.Context, f moss.VolumeFilter) ([]moss.Volume, []string) {
	users := s.volumeUsers()
	all, warnings := s.VolumeDrivers.Listed(ctx)
	return slices.DeleteFunc(slices.Clone(all), func(v moss.Volume) bool {
		return !chosen(f, v) || f.Dangling != nil && *f.Dangling != (len(users[v.Name]) == 0)
	}), warnings
}

// Remove takes a volume away. Errors: NotFound, unless forced, and Conflict, with
// the containers' ids, where it is in use.
func (s VolumeService) Remove(ctx context.Context, name string, force bool) error {
	done, err := s.volumeClaims.take(ctx, name, true)
	if err != nil {
		return err
	}
	defer done()
	v, err := s.Volumes.Get(name)
	if err != nil && moss.ClassOf(err) == moss.NotFound {
		v, err = s.VolumeDrivers.Adopt(ctx, name) // a plugin may have it
	}
	if err != nil && force && moss.ClassOf(err) == moss.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if ids := s.volumeUsers()[name]; len(ids) > 0 {
		return moss.Errorf(moss.Conflict, "remove %s: volume is in use - [%s]", name, strings.Join(ids, ", "))
	}
	err = s.removeVolume(ctx, name)
	if err != nil && force && v.Driver != moss.LocalDriver {
		s.Log.Warn("a volume is forgotten that its driver did not remove", "volume", name, "driver", v.Driver, "error", err)
		return s.VolumeDrivers.Forget(ctx, name)
	}
	return err
}

// Prune removes the volumes that no container has and that the filter chooses,
// of which only the anonymous ones unless it says all. Those of plugins stay, as
// with docker: others may use them. One that cannot be removed stops no other.
func (s VolumeService) Prune(ctx context.Context, f moss.VolumeFilter) (moss.VolumesPruned, error) {
	var pruned moss.VolumesPruned
	users := s.volumeUsers()
	for _, v := range s.Volumes.List() {
		if ctx.Err() != nil || v.Driver != moss.LocalDriver || !f.All && !v.Anonymous() || !chosen(f, v) || len(users[v.Name]) > 0 {
			continue
		}
		freed, removed, err := s.pruneVolume(ctx, v.Name)
		if err != nil {
			s.Log.Warn("a volume could not be pruned", "volume", v.Name, "error", err)
		}
		if removed {
			pruned.Removed = append(pruned.Removed, v.Name)
			pruned.Reclaimed += freed
		}
	}
	s.publishVolume("", "prune", "reclaimed", strconv.FormatInt(pruned.Reclaimed, 10))
	return pruned, ctx.Err()
}

// pruneVolume removes a volume if still nobody uses it when its turn comes.
func (s VolumeService) pruneVolume(ctx context.Context, name string) (freed int64, removed bool, err error) {
	done, err := s.volumeClaims.take(ctx, name, true)
	if err != nil {
		return 0, false, err
	}
	defer done()
	if len(s.volumeUsers()[name]) > 0 {
		return 0, false, nil
	}
	freed, err = s.VolumeData.Size(ctx, name)
	if err != nil {
		return 0, false, err
	}
	err = s.removeVolume(context.WithoutCancel(ctx), name) // once begun it is finished
	return freed, err == nil, err
}

// Usage tells what every volume takes on the disk, but for those of plugins.
func (s VolumeService) Usage(ctx context.Context) ([]moss.VolumeUsage, error) {
	users := s.volumeUsers()
	list := slices.DeleteFunc(slices.Clone(s.Volumes.List()), func(v moss.Volume) bool { return v.Driver != moss.LocalDriver })
	var (
		wg    sync.WaitGroup
		usage = make([]moss.VolumeUsage, len(list))
		errs  = make([]error, len(list))
		slots = make(chan struct{}, usageWidth)
	)
	for i, v := range list {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			size, err := s.VolumeData.Size(ctx, v.Name)
			if err != nil && moss.ClassOf(err) != moss.NotFound {
				errs[i] = err
			}
			usage[i] = moss.VolumeUsage{Volume: v, Size: size, Containers: len(users[v.Name])}
		})
	}
	wg.Wait()
	return usage, errors.Join(errs...)
}

func chosen(f moss.VolumeFilter, v moss.Volume) bool {
	return (len(f.Names) == 0 || slices.ContainsFunc(f.Names, func(n string) bool { return strings.Contains(v.Name, n) })) &&
		(len(f.Drivers) == 0 || slices.Contains(f.Drivers, v.Driver)) && hasLabels(v.Labels, f.Labels) &&
		!slices.ContainsFunc(f.NotLabel, func(l string) bool { return hasLabels(v.Labels, []string{l}) })
}

// removeVolume removes a volume that nobody has; the caller has its turn alone.
func (e *Engine) removeVolume(ctx context.Context, name string) error {
	v, err := e.Volumes.Get(name)
	if err != nil {
		return err
	}
	if err := e.Volumes.Remove(ctx, name); err != nil {
		return err
	}
	e.publishVolume(name, "destroy", "driver", v.Driver)
	return nil
}

// volumeUsers are the containers that have each volume, running or not: what
// the records say, so that it is right after any crash.
func (e *Engine) volumeUsers() map[string][]string {
	users := make(map[string][]string)
	for _, c := range e.all() {
		for _, name := range volumesOf(c.record()) {
			users[name] = append(users[name], string(c.id))
		}
	}
	return users
}

func anonymous(labels map[string]string) map[string]string {
	all := map[string]string{moss.LabelAnonymous: ""}
	maps.Copy(all, labels)
	return all
}

func (e *Engine) publishVolume(name, action string, extra ...string) {
	attrs := make(map[string]string)
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	e.Events.Publish(moss.Event{Type: moss.VolumeEvent, Action: action, ActorID: name, Attributes: attrs, Time: time.Now()})
}
