package engine

import (
	"context"
	"errors"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

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
	var held releases
	done = held.all
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
		held.add(release)
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
	var held releases
	done = held.all
	for _, name := range names {
		release, err := e.volumeClaims.take(ctx, name, false)
		if err != nil {
			return nil, done, err
		}
		held.add(release)
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
