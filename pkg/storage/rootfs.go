package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/storage"
	"github.com/containers/storage/types"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Create makes the writable layer on top of an image.
func (s *Storage) Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	return s.create(ctx, id, image, nil, false)
}

// CreateVolatile makes a writable layer that is of no use after the loss of
// power: for a container that is removed when it ends. Nothing of it is
// synced; unmounting a layer that is not volatile syncs the whole file system.
func (s *Storage) CreateVolatile(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	return s.create(ctx, id, image, nil, true)
}

func (s *Storage) create(ctx context.Context, id moss.ContainerID, image moss.ImageID, maps *moss.IDMaps, volatile bool) error {
	const op = "make rootfs of"
	if err := ctx.Err(); err != nil {
		return moss.Wrap(err, op, id.Short())
	}
	o := storage.ContainerOptions{
		IDMappingOptions: types.IDMappingOptions{HostUIDMapping: true, HostGIDMapping: true},
		LabelOpts:        []string{"disable"},
		Volatile:         volatile,
	}
	if maps != nil {
		o.IDMappingOptions = types.IDMappingOptions{UIDMap: storeMap(maps.UIDs), GIDMap: storeMap(maps.GIDs)}
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	if volatile && maps == nil {
		if done, err := s.createVolatile(id, image); done || err != nil {
			return classified(err, op, id)
		}
	}
	// The layer has the container's id, by which it is found again; see lists.
	_, err := s.store.CreateContainer(string(id), nil, strings.TrimPrefix(string(image), "sha256:"), string(id), "", &o)
	return classified(err, op, id)
}

// Mount mounts the root file system of a container. Mounting what is mounted
// gives the same mount; a mount that went away with its namespace is made again.
func (s *Storage) Mount(ctx context.Context, id moss.ContainerID) (moss.Mount, error) {
	return s.mount(ctx, id, "")
}

// MountLabelled is Mount that shows all files with an SELinux label, which stays
// until the file system is unmounted.
func (s *Storage) MountLabelled(ctx context.Context, id moss.ContainerID, label string) (moss.Mount, error) {
	if s.choice.driver != driverOverlay {
		return moss.Mount{}, moss.Errorf(moss.NotImplemented, "the storage driver %s cannot give files an SELinux label: use overlay, or --security-opt label=disable", s.choice.driver)
	}
	return s.mount(ctx, id, label)
}

func (s *Storage) mount(ctx context.Context, id moss.ContainerID, label string) (moss.Mount, error) {
	const op = "mount rootfs of"
	if err := ctx.Err(); err != nil {
		return moss.Mount{}, moss.Wrap(err, op, id.Short())
	}
	if err := s.leaving.wait(ctx, id); err != nil {
		return moss.Mount{}, moss.Wrap(err, op, id.Short())
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	s.sizes.drop(id)
	if b, ok := s.volatile.get(id); ok {
		m, err := s.mountVolatile(id, b, label)
		return m, classified(err, op, id)
	}
	s.mounts.add(id)
	path, err := s.mountLocked(id, label)
	if err != nil {
		return moss.Mount{}, classified(err, op, id)
	}
	if ids := s.shiftOfLocked(id); !ids.reaches() {
		path, err = show(id, path)
	}
	return moss.Mount{Path: path}, classified(err, op, id)
}

// mountLocked has the store mount it, and gives what serves the mount its place.
func (s *Storage) mountLocked(id moss.ContainerID, label string) (string, error) {
	dir := s.merged(id)
	if s.choice.mountProgram == "" || dir == "" {
		return s.store.Mount(string(id), label)
	}
	if dead(dir) { // it would be mounted over
		if err := detach(dir); err != nil {
			return "", err
		}
		s.servers.unmounted(dir)
	}
	on, err := mountinfo.Mounted(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	path, err := s.store.Mount(string(id), label)
	if err != nil || on {
		return path, err
	}
	if err := s.servers.placed(dir); err != nil {
		_, undo := s.store.Unmount(string(id), true)
		s.servers.unmounted(dir)
		return "", errors.Join(err, undo)
	}
	return path, nil
}

// Unmount unmounts it however often it was mounted; nil when it is not mounted
// or not there.
func (s *Storage) Unmount(_ context.Context, id moss.ContainerID) error {
	if _, volatile := s.volatile.get(id); !volatile && !s.mounts.has(id) {
		return nil
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	last, err := s.unmountLocked(id)
	if err == nil {
		s.mounts.drop(id)
	}
	s.leaving.add(id, last) // before the next mount's turn
	return err
}

// mounted says how often a root file system is mounted.
func (s *Storage) mounted(id moss.ContainerID) (int, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if _, ok := s.volatile.get(id); ok {
		is, err := s.volatile.mounted(id)
		if is {
			return 1, err
		}
		return 0, err
	}
	return s.store.Mounted(string(id))
}

// unmountLocked gives the file that keeps the file system alive that is not
// mounted any more: closing it syncs what the container wrote, which may take
// long and is not done in the others' turn.
func (s *Storage) unmountLocked(id moss.ContainerID) (last *os.File, err error) {
	// Teardown goes on after the caller's context has ended.
	if _, ok := s.volatile.get(id); ok {
		return nil, classified(s.volatile.unmount(id), "unmount rootfs of", id)
	}
	dir := s.merged(id)
	n, err := s.store.Mounted(string(id))
	if err == nil && n > 0 {
		last = s.hold(dir)
	}
	if ids := s.shiftOfLocked(id); !ids.reaches() {
		err = errors.Join(err, hide(id))
	}
	// What the kernel has mounted goes, also what the store does not know of: a
	// daemon was killed after the one and before the other, and the next start
	// mounted over it. The store would fail on it. What a program serves and the
	// store knows, that takes away in the program's way.
	if err == nil && dir != "" && (s.choice.mountProgram == "" || n == 0 || dead(dir)) {
		err = detach(dir)
	}
	if err == nil && n > 0 {
		_, err = s.store.Unmount(string(id), true)
	}
	if gone(err) {
		err = nil
	}
	if err == nil {
		s.servers.unmounted(dir)
	}
	return last, classified(err, "unmount rootfs of", id)
}

// merged is where overlay has the root file system of a container; "" where it
// has none.
func (s *Storage) merged(id moss.ContainerID) string {
	if s.choice.driver != driverOverlay {
		return ""
	}
	c, err := s.store.Container(string(id))
	if err != nil {
		return ""
	}
	return filepath.Join(s.store.GraphRoot(), driverOverlay, c.LayerID, "merged")
}

// hold opens the root of a mount of the kernel's; nil when there is none.
func (s *Storage) hold(dir string) *os.File {
	if dir == "" || s.choice.mountProgram != "" {
		return nil
	}
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil
	}
	return f
}

// Remove unmounts and deletes the writable layer; nil when it is not there. Its
// files are renamed away and deleted later, which also makes room for the
// store's records of it on a disk that is full.
func (s *Storage) Remove(ctx context.Context, id moss.ContainerID) error {
	var last *os.File
	var err error
	for range 3 { // each gets further
		if last, err = s.remove(id); !errors.Is(err, unix.ENOSPC) {
			break
		}
		if last != nil { // it keeps what it had open on the disk
			_ = last.Close() // nothing was written by it
			last = nil
		}
		if s.scrap.wait(ctx) != nil {
			break
		}
	}
	s.scrap.wake(last)
	return classified(err, "remove rootfs of", id)
}

func (s *Storage) remove(id moss.ContainerID) (*os.File, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if _, ok := s.volatile.get(id); ok {
		return nil, s.removeVolatile(id)
	}
	last, unmountErr := s.unmountLocked(id)
	if unmountErr != nil && !errors.Is(unmountErr, unix.ENOSPC) {
		return last, unmountErr
	}
	s.sizes.forget(id)
	if c, err := s.store.Container(string(id)); err == nil {
		layer := filepath.Join(s.store.GraphRoot(), driverOverlay, c.LayerID)
		dir := filepath.Join(layer, "diff")
		if s.choice.driver == driverVFS {
			layer = filepath.Join(s.store.GraphRoot(), driverVFS, "dir", c.LayerID)
			dir = layer
		}
		if err := s.scrap.add(dir); err != nil {
			if errors.Is(err, unix.EXDEV) {
				err = movable(layer)
			}
			if err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
				return last, errors.Join(err, unmountErr)
			}
			s.log.Debug("a container's files are deleted by the store", "container", id.Short())
		}
	}
	if unmountErr != nil {
		return last, unmountErr
	}
	err := s.store.DeleteContainer(string(id))
	if gone(err) {
		err = nil
	}
	return last, err
}

// movable says whether the store can rename a layer away. One that it has begun
// to delete and cannot finish keeps it from being opened ever after.
func movable(layer string) error {
	aside := layer + ".moved" // no layer of the store's, should this process end here: it is swept
	err := os.Rename(layer, aside)
	if err == nil {
		return os.Rename(aside, layer)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return err
}

// List names the containers that have a layer.
func (s *Storage) List(context.Context) ([]moss.ContainerID, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	all, err := s.store.Containers()
	if err != nil {
		return nil, moss.Wrap(err, "list root file systems", "")
	}
	ids := s.volatile.ids()
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
