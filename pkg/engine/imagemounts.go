package engine

import (
	"context"
	"errors"

	"github.com/moss-containers/moss/pkg/moss"
)

// A mount of an image is a layer of its own on top of the image, as docker does
// it: made with the container, mounted while it runs, removed with it. So what
// is true of root file systems after a crash is true of these, and the image
// counts as used.

// makeImageMounts finds the images that a new container mounts and makes their
// layers. Until done is called, none of the images goes away. done is never nil,
// and may be called again.
func (s Containers) makeImageMounts(ctx context.Context, rec *moss.Container, undo *undo) (done func(), err error) {
	var held releases
	done = held.all
	for i := range rec.Mounts {
		m := &rec.Mounts[i]
		if m.Type != moss.MountImage {
			continue
		}
		if _, err := s.resolveOrBuiltin(ctx, m.Name); err != nil {
			return done, notMissing(err)
		}
		image, release, err := s.claim(ctx, m.Name, false)
		if err != nil {
			return done, notMissing(err)
		}
		held.add(release)
		m.Image, m.Layer = image.ID, moss.ContainerID(moss.NewHexID())
		layer := m.Layer
		if err := s.createLayer(ctx, rec, layer, image.ID); err != nil {
			return done, moss.Wrap(err, "create the layer of the image", m.Name)
		}
		undo.add(func(ctx context.Context) error { return s.Rootfs.Remove(ctx, layer) })
	}
	return done, nil
}

// createLayer makes a layer that lives as long as the container.
func (s Containers) createLayer(ctx context.Context, rec *moss.Container, layer moss.ContainerID, image moss.ImageID) error {
	if rec.IDMaps != nil {
		m, ok := s.Rootfs.(MappedRootfs)
		if !ok {
			return moss.Errorf(moss.NotImplemented, "this store gives files no other owners, which a user namespace of the container's own needs: leave out --userns")
		}
		return m.CreateMapped(ctx, layer, image, *rec.IDMaps, rec.Host.AutoRemove)
	}
	if v, ok := s.Rootfs.(VolatileRootfs); ok && rec.Host.AutoRemove {
		return v.CreateVolatile(ctx, layer, image)
	}
	return s.Rootfs.Create(ctx, layer, image)
}

// mountImages mounts the images of a container's mounts, and tells where they are.
func (e *Engine) mountImages(ctx context.Context, rec *moss.Container, points []moss.MountPoint) error {
	for i := range points {
		m := &points[i]
		if m.Type != moss.MountImage {
			continue
		}
		root, err := e.mountRootfs(ctx, rec, m.Layer)
		if err != nil {
			return moss.Wrap(err, "mount the image", m.Name)
		}
		m.Source = root.Path
	}
	return nil
}

// unmountImages undoes mountImages; nil where nothing is mounted.
func (e *Engine) unmountImages(ctx context.Context, rec *moss.Container) error {
	var errs []error
	for _, layer := range mountedLayers(rec) {
		errs = append(errs, e.Rootfs.Unmount(ctx, layer))
	}
	return errors.Join(errs...)
}

// removeImageMounts removes the layers; nil where they are gone.
func (e *Engine) removeImageMounts(ctx context.Context, rec *moss.Container) error {
	var errs []error
	for _, layer := range mountedLayers(rec) {
		errs = append(errs, e.Rootfs.Remove(ctx, layer))
	}
	return errors.Join(errs...)
}

// mountedLayers are the layers of the images that a container mounts.
func mountedLayers(rec *moss.Container) (layers []moss.ContainerID) {
	for _, m := range rec.Mounts {
		if m.Type == moss.MountImage && m.Layer != "" {
			layers = append(layers, m.Layer)
		}
	}
	return layers
}

// usesImage says whether a container is made of an image, or mounts it.
func usesImage(rec *moss.Container, id moss.ImageID) bool {
	if rec.Image == id {
		return true
	}
	for _, m := range rec.Mounts {
		if m.Type == moss.MountImage && m.Image == id {
			return true
		}
	}
	return false
}
