package engine

import (
	"context"
	"errors"
	"maps"
	"path"
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

// volumesOf names a container's volumes, each once, in order.
func volumesOf(rec *moss.Container) []string {
	var names []string
	for _, m := range rec.Mounts {
		if m.Type == moss.MountVolume && !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	return names
}

// addVolumes completes a record's mounts: those of other containers first, which
// its own replace, and anonymous volumes for what the image or the user declares.
func (s Containers) addVolumes(rec *moss.Container) error {
	var mounts []moss.MountPoint
	put := func(m moss.MountPoint) {
		m.Target = path.Clean(m.Target)
		mounts = slices.DeleteFunc(mounts, func(o moss.MountPoint) bool { return o.Target == m.Target })
		mounts = append(mounts, m)
	}
	for _, from := range rec.Host.VolumesFrom {
		c, err := s.find(from.Container)
		if err != nil {
			// Not of class NotFound: docker's client would take the image to be missing, and pull it.
			return moss.Errorf(moss.Invalid, "%w", err)
		}
		for _, m := range c.record().Mounts {
			if m.Type == moss.MountTmpfs {
				continue
			}
			m.ReadOnly = m.ReadOnly || from.ReadOnly
			m.NoCopy, m.CreateSource, m.Ask, m.Mode = true, false, nil, from.Mode
			if m.Type == moss.MountImage { // by its id, should the name be another's by now
				m.Name, m.Layer = string(m.Image), ""
			}
			put(m)
		}
	}
	for _, m := range rec.Host.Mounts {
		put(m)
	}
	for _, target := range rec.Config.Volumes {
		target = path.Clean(target)
		if target == "/" || !path.IsAbs(target) {
			return moss.Errorf(moss.Invalid, "invalid volume %q: it must be an absolute path other than /", target)
		}
		if slices.ContainsFunc(mounts, func(m moss.MountPoint) bool { return m.Target == target }) {
			continue
		}
		put(moss.MountPoint{Type: moss.MountVolume, Target: target})
	}
	rec.Mounts = mounts
	return nil
}

// makeVolumes makes the volumes of a new container that are not there, and
// fills those that are empty with what the image has in their place. Until done
// is called, none of them goes away. done is never nil, and may be called again.
func (s Containers) makeVolumes(ctx context.Context, rec *moss.Container, undo *undo) (done func(), err error) {
	var releases []func()
	done = func() {
		for _, r := range releases {
			r()
		}
		releases = nil
	}
	var fill []moss.MountPoint
	for i := range rec.Mounts {
		m := &rec.Mounts[i]
		if m.Type != moss.MountVolume {
			continue
		}
		ask := moss.VolumeRequest{}
		if m.Ask != nil {
			ask = *m.Ask
		}
		ask.Name = m.Name
		if ask.Driver == "" {
			ask.Driver = rec.Host.VolumeDriver
		}
		if ask.Name == "" {
			ask.Name, ask.Labels, m.Anonymous = moss.NewHexID(), anonymous(ask.Labels), true
		}
		release, err := s.volumeClaims.take(ctx, ask.Name, false)
		if err != nil {
			return done, err
		}
		releases = append(releases, release)
		v, created, err := s.Volumes.Create(ctx, ask)
		if err != nil {
			return done, notMissing(err)
		}
		if created {
			s.publishVolume(v.Name, "create", "driver", v.Driver)
			undo.add(func(ctx context.Context) error { return s.dropVolume(ctx, v.Name) })
		}
		m.Name, m.Driver, m.Source = v.Name, v.Driver, v.Path
		if !m.NoCopy && m.SubPath == "" {
			fill = append(fill, *m)
		}
	}
	return done, s.fill(ctx, rec, fill)
}

// notMissing takes the class NotFound away, at which docker's client would take
// the image to be missing, and pull it.
func notMissing(err error) error {
	if moss.ClassOf(err) == moss.NotFound {
		return moss.Errorf(moss.Invalid, "%w", err)
	}
	return err
}

// dropVolume removes a volume that was made for a container which did not come
// to be, unless another one has it by now.
func (e *Engine) dropVolume(ctx context.Context, name string) error {
	done, err := e.volumeClaims.take(ctx, name, true)
	if err != nil {
		return err
	}
	defer done()
	if len(e.volumeUsers()[name]) > 0 {
		return nil
	}
	return e.removeVolume(ctx, name)
}

func (s Containers) fill(ctx context.Context, rec *moss.Container, points []moss.MountPoint) (err error) {
	if len(points) == 0 {
		return nil
	}
	rootfs, err := s.mountRootfs(ctx, rec, rec.ID)
	if err != nil {
		return moss.Wrap(err, "mount rootfs of", rec.Name)
	}
	defer func() { err = errors.Join(err, s.Rootfs.Unmount(context.WithoutCancel(ctx), rec.ID)) }()
	for _, p := range points {
		if err := s.VolumeData.Fill(ctx, p.Name, rootfs, p.Target); err != nil {
			return err
		}
	}
	return nil
}

// mountVolumes mounts what a container's volumes need, and gives its mounts as
// binds. Until done is called nobody unmounts them. What is mounted goes with
// unmount, also after an error. done is never nil, and may be called again.
func (e *Engine) mountVolumes(ctx context.Context, c *container, rec *moss.Container) (points []moss.MountPoint, done func(), err error) {
	names := volumesOf(rec)
	if len(names) == 0 && len(mountedLayers(rec)) == 0 {
		return rec.Mounts, func() {}, nil
	}
	points = slices.Clone(rec.Mounts)
	c.setNeedsVolumes(true)
	var releases []func()
	done = func() {
		for _, r := range releases {
			r()
		}
		releases = nil
	}
	for _, name := range names {
		release, err := e.volumeClaims.take(ctx, name, false)
		if err != nil {
			return nil, done, err
		}
		releases = append(releases, release)
		if err := e.VolumeUse.Mount(ctx, name, rec.ID); err != nil {
			return nil, done, notMissing(err)
		}
	}
	if err := e.mountImages(ctx, rec, points); err != nil {
		return nil, done, err
	}
	points, err = e.VolumeUse.Expose(ctx, rec.ID, points)
	return points, done, err
}

// unmountVolumes undoes mountVolumes, but for what other containers still need.
func (e *Engine) unmountVolumes(ctx context.Context, c *container) error {
	c.setNeedsVolumes(false) // before the others are looked at
	rec := c.record()
	names := volumesOf(rec)
	if len(names) == 0 && len(mountedLayers(rec)) == 0 {
		return nil
	}
	errs := []error{e.VolumeUse.Conceal(ctx, rec.ID), e.unmountImages(ctx, rec)}
	for _, name := range names {
		switch v, err := e.Volumes.Get(name); {
		case err != nil:
		case v.Driver != moss.LocalDriver: // its driver counts
			errs = append(errs, e.VolumeUse.Unmount(ctx, name, rec.ID))
		case len(v.Options) > 0:
			errs = append(errs, e.unmountVolume(ctx, rec.ID, name))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) unmountVolume(ctx context.Context, id moss.ContainerID, name string) error {
	done, err := e.volumeClaims.take(ctx, name, true)
	if err != nil {
		return err
	}
	defer done()
	for _, c := range e.all() {
		if c.wantsVolumes() && slices.Contains(volumesOf(c.record()), name) {
			return nil
		}
	}
	return e.VolumeUse.Unmount(ctx, name, id)
}

func (c *container) setNeedsVolumes(v bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.needsVolumes = v
}

func (c *container) wantsVolumes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.needsVolumes
}

// removeAnonymous removes the volumes that go with a container: those that nobody
// has named, where it was asked for, unless another container has them.
func (e *Engine) removeAnonymous(ctx context.Context, rec *moss.Container) error {
	if !rec.RemoveVolumes && !rec.Host.AutoRemove {
		return nil
	}
	var errs []error
	for _, m := range rec.Mounts {
		if m.Type == moss.MountVolume && m.Anonymous {
			errs = append(errs, e.removeOwn(ctx, rec.ID, m.Name))
		}
	}
	return errors.Join(errs...)
}

func (e *Engine) removeOwn(ctx context.Context, id moss.ContainerID, name string) error {
	done, err := e.volumeClaims.take(ctx, name, true)
	if err != nil {
		return err
	}
	defer done()
	if _, err := e.Volumes.Get(name); err != nil {
		return nil
	}
	if slices.ContainsFunc(e.volumeUsers()[name], func(user string) bool { return user != string(id) }) {
		return nil
	}
	return e.removeVolume(ctx, name)
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

// publishMounts tells of the volumes that a container began or ceased to use.
func (e *Engine) publishMounts(rec *moss.Container, action string, at time.Time) {
	for _, m := range rec.Mounts {
		if m.Type != moss.MountVolume {
			continue
		}
		attrs := map[string]string{"container": string(rec.ID), "driver": m.Driver}
		if action == "mount" {
			attrs["destination"], attrs["read/write"], attrs["propagation"] = m.Target, strconv.FormatBool(!m.ReadOnly), m.Propagation
		}
		e.Events.Publish(moss.Event{Type: moss.VolumeEvent, Action: action, ActorID: m.Name, Attributes: attrs, Time: at})
	}
}
