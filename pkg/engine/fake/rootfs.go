package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// Rootfs keeps root file systems as plain directories: an image is a set of
// files, and a mount is a directory of its own. It is an engine.Rootfs.
type Rootfs struct {
	dir string // where the directories are

	mu      sync.Mutex
	images  map[moss.ImageID]map[string]string
	layers  map[moss.ContainerID]string // the directory while it is not mounted
	mounted map[moss.ContainerID]bool
	labels  map[moss.ContainerID]string            // of the mounts
	bases   map[moss.ContainerID]map[string]string // the images' files, by container
	of      map[moss.ContainerID]moss.ImageID
	fail    map[string]error
}

// NewRootfs keeps its directories in dir, which is the caller's to remove.
func NewRootfs(dir string) *Rootfs {
	return &Rootfs{dir: dir, images: map[moss.ImageID]map[string]string{}, layers: map[moss.ContainerID]string{}, mounted: map[moss.ContainerID]bool{}, labels: map[moss.ContainerID]string{}, bases: map[moss.ContainerID]map[string]string{}, of: map[moss.ContainerID]moss.ImageID{}, fail: map[string]error{}}
}

// AddImage makes an image known, with the text of its files by name.
func (r *Rootfs) AddImage(id moss.ImageID, files map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images[id] = maps.Clone(files)
}

// DropImage makes an image unknown. Errors: Conflict while a container stands on it.
func (r *Rootfs) DropImage(id moss.ImageID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c, image := range r.of {
		if image == id {
			return moss.Errorf(moss.Conflict, "image %s is in use by container %s", id.Short(), c.Short())
		}
	}
	delete(r.images, id)
	return nil
}

// Fail makes a method ("Create", "Mount", "Unmount", "Remove", "Diff", "Export", "Written", "Stat",
// "Pack", "Unpack", "Changes", "Alive") return err until it is called with nil.
func (r *Rootfs) Fail(method string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[method] = err
}

// Alive fails as it is told to.
func (r *Rootfs) Alive(int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fail["Alive"]
}

// Mounted names the containers whose root file system is mounted.
func (r *Rootfs) Mounted() []moss.ContainerID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.mounted))
}

// CreateMapped makes a layer as Create does: owners are nobody's business here.
func (r *Rootfs) CreateMapped(ctx context.Context, id moss.ContainerID, image moss.ImageID, maps moss.IDMaps, _ bool) error {
	if _, ok := moss.ToEngine(maps.UIDs, 0); !ok {
		return moss.Errorf(moss.Invalid, "the container's user namespace has no root")
	}
	return r.Create(ctx, id, image)
}

// Create makes the writable layer: a copy of the image's files.
func (r *Rootfs) Create(ctx context.Context, id moss.ContainerID, image moss.ImageID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fail["Create"]); err != nil {
		return err
	}
	files, ok := r.images[image]
	if !ok {
		return moss.Errorf(moss.NotFound, "no image %s", image.Short())
	}
	if _, ok := r.layers[id]; ok {
		return moss.Errorf(moss.Conflict, "container %s has a root file system", id.Short())
	}
	layer := filepath.Join(r.dir, string(id)+".layer")
	if err := os.Mkdir(layer, 0o700); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(layer, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(layer, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	r.layers[id], r.bases[id], r.of[id] = layer, files, image
	return nil
}

// MountLabelled implements engine.LabelledRootfs.
func (r *Rootfs) MountLabelled(ctx context.Context, id moss.ContainerID, label string) (moss.Mount, error) {
	m, err := r.Mount(ctx, id)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.labels[id] = label
	}
	return m, err
}

// Label is what the root file system was mounted with last.
func (r *Rootfs) Label(id moss.ContainerID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.labels[id]
}

// Mount puts the layer at its path.
func (r *Rootfs) Mount(ctx context.Context, id moss.ContainerID) (moss.Mount, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fail["Mount"]); err != nil {
		return moss.Mount{}, err
	}
	layer, ok := r.layers[id]
	if !ok {
		return moss.Mount{}, moss.Errorf(moss.NotFound, "container %s has no root file system", id.Short())
	}
	m := moss.Mount{Path: filepath.Join(r.dir, string(id))}
	if r.mounted[id] {
		return m, nil
	}
	if err := os.Rename(layer, m.Path); err != nil {
		return moss.Mount{}, fmt.Errorf("mounting: %w", err)
	}
	r.mounted[id] = true
	return m, nil
}

// Unmount takes it from its path again.
func (r *Rootfs) Unmount(_ context.Context, id moss.ContainerID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail["Unmount"]; err != nil {
		return err
	}
	return r.unmountLocked(id)
}

func (r *Rootfs) unmountLocked(id moss.ContainerID) error {
	if !r.mounted[id] {
		return nil
	}
	if err := os.Rename(filepath.Join(r.dir, string(id)), r.layers[id]); err != nil {
		return err
	}
	delete(r.mounted, id)
	return nil
}

// Remove deletes the layer.
func (r *Rootfs) Remove(_ context.Context, id moss.ContainerID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail["Remove"]; err != nil {
		return err
	}
	layer, ok := r.layers[id]
	if !ok {
		return nil
	}
	if err := r.unmountLocked(id); err != nil {
		return err
	}
	delete(r.layers, id)
	delete(r.bases, id)
	delete(r.of, id)
	return os.RemoveAll(layer)
}

// List names the containers that have a layer.
func (r *Rootfs) List(context.Context) ([]moss.ContainerID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.layers)), nil
}
