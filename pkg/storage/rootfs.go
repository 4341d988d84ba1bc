package storage

import (
	"context"
	"errors"
	"strings"

	"github.com/containers/storage"
	"github.com/containers/storage/types"

	"github.com/moss-containers/moss/pkg/moss"
)

// Create makes the writable layer on top of an image.
func (s *Storage) Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	return s.create(ctx, id, image, false)
}

// CreateVolatile makes a writable layer that is of no use after the loss of
// power: for a container that is removed when it ends. Nothing of it is
// synced; unmounting a layer that is not volatile syncs the whole file system.
func (s *Storage) CreateVolatile(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	return s.create(ctx, id, image, true)
}

func (s *Storage) create(ctx context.Context, id moss.ContainerID, image moss.ImageID, volatile bool) error {
	const op = "make rootfs of"
	if err := ctx.Err(); err != nil {
		return moss.Wrap(err, op, id.Short())
	}
	o := storage.ContainerOptions{
		IDMappingOptions: types.IDMappingOptions{HostUIDMapping: true, HostGIDMapping: true},
		LabelOpts:        []string{"disable"},
		Volatile:         volatile,
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	_, err := s.store.CreateContainer(string(id), nil, strings.TrimPrefix(string(image), "sha256:"), "", "", &o)
	return classified(err, op, id)
}

// Mount mounts the root file system of a container. Mounting what is mounted
// gives the same mount; a mount that went away with its namespace is made again.
func (s *Storage) Mount(ctx context.Context, id moss.ContainerID) (moss.Mount, error) {
	const op = "mount rootfs of"
	if err := ctx.Err(); err != nil {
		return moss.Mount{}, moss.Wrap(err, op, id.Short())
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	s.sizes.drop(id)
	path, err := s.store.Mount(string(id), "")
	if err != nil {
		return moss.Mount{}, classified(err, op, id)
	}
	return moss.Mount{Path: path}, nil
}

// Unmount unmounts it however often it was mounted; nil when it is not mounted
// or not there.
func (s *Storage) Unmount(_ context.Context, id moss.ContainerID) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.unmountLocked(id)
}

// mounted says how often a root file system is mounted.
func (s *Storage) mounted(id moss.ContainerID) (int, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.store.Mounted(string(id))
}

func (s *Storage) unmountLocked(id moss.ContainerID) error {
	// Teardown goes on after the caller's context has ended.
	n, err := s.store.Mounted(string(id))
	if err == nil && n > 0 {
		_, err = s.store.Unmount(string(id), true)
	}
	if gone(err) {
		return nil
	}
	return classified(err, "unmount rootfs of", id)
}

// Remove unmounts and deletes the writable layer; nil when it is not there.
func (s *Storage) Remove(_ context.Context, id moss.ContainerID) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	if err := s.unmountLocked(id); err != nil {
		return err
	}
	s.sizes.forget(id)
	err := s.store.DeleteContainer(string(id))
	if gone(err) {
		return nil
	}
	return classified(err, "remove rootfs of", id)
}

// List names the containers that have a layer.
func (s *Storage) List(context.Context) ([]moss.ContainerID, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	all, err := s.store.Containers()
	if err != nil {
		return nil, moss.Wrap(err, "list root file systems", "")
	}
	ids := make([]moss.ContainerID, 0, len(all))
	for _, c := range all {
		ids = append(ids, moss.ContainerID(c.ID))
	}
	return ids, nil
}

func gone(err error) bool {
	return errors.Is(err, storage.ErrContainerUnknown) || errors.Is(err, storage.ErrNotAContainer) ||
		errors.Is(err, storage.ErrLayerUnknown) || errors.Is(err, storage.ErrLayerNotMounted)
}

func classified(err error, op string, id moss.ContainerID) error {
	if err == nil {
		return nil
	}
	class := moss.ClassOf(err)
	switch {
	case errors.Is(err, storage.ErrImageUnknown), gone(err):
		class = moss.NotFound
	case errors.Is(err, storage.ErrDuplicateID):
		class = moss.Conflict
	}
	return &moss.Error{Class: class, Op: op, ID: id.Short(), Err: err}
}
