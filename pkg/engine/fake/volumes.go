package fake

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Volumes is a store of volumes in a plain directory, without mounts.
type Volumes struct {
	dir string

	mu      sync.Mutex
	all     map[string]moss.Volume
	mounted map[string]bool
	exposed map[moss.ContainerID]bool
}

var (
	_ engine.Volumes       = (*Volumes)(nil)
	_ engine.VolumeData    = (*Volumes)(nil)
	_ engine.VolumeMounts  = (*Volumes)(nil)
	_ engine.VolumeDrivers = (*Volumes)(nil)
)

// NewVolumes makes a store without volumes.
func NewVolumes(dir string) *Volumes {
	return &Volumes{dir: dir, all: make(map[string]moss.Volume), mounted: make(map[string]bool), exposed: make(map[moss.ContainerID]bool)}
}

// Mounted says whether a volume's options are in place.
func (s *Volumes) Mounted(name string) bool { s.mu.Lock(); defer s.mu.Unlock(); return s.mounted[name] }

// Exposed says whether a container's volumes are.
func (s *Volumes) Exposed(id moss.ContainerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exposed[id]
}

// Create makes a volume.
func (s *Volumes) Create(_ context.Context, r moss.VolumeRequest) (moss.Volume, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Driver != "" && r.Driver != moss.LocalDriver {
		return moss.Volume{}, false, moss.Errorf(moss.NotFound, "no driver %s", r.Driver)
	}
	if r.Name == "" {
		r.Name = moss.NewHexID()
	}
	if filepath.Base(r.Name) != r.Name {
		return moss.Volume{}, false, moss.Errorf(moss.Invalid, "create %s: includes invalid characters", r.Name)
	}
	if v, ok := s.all[r.Name]; ok {
		if len(r.Options) > 0 && !maps.Equal(v.Options, r.Options) {
			return v, false, moss.Errorf(moss.Conflict, "it has other options")
		}
		return v, false, nil
	}
	v := moss.Volume{Name: r.Name, Driver: moss.LocalDriver, Options: r.Options, Labels: r.Labels, Created: time.Now(), Path: filepath.Join(s.dir, r.Name)}
	s.all[r.Name] = v
	return v, true, os.MkdirAll(v.Path, 0o755)
}

// Get finds a volume.
func (s *Volumes) Get(name string) (moss.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.all[name]
	if !ok {
		return v, moss.Errorf(moss.NotFound, "get %s: no such volume", name)
	}
	return v, nil
}

// List returns all by name.
func (s *Volumes) List() []moss.Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.all), func(a, b moss.Volume) int { return cmp.Compare(a.Name, b.Name) })
}

// Remove takes one away.
func (s *Volumes) Remove(_ context.Context, name string) error {
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
	delete(s.mounted, name)
	return os.RemoveAll(v.Path)
}

// Fill copies a directory into an empty volume.
func (s *Volumes) Fill(_ context.Context, name string, from moss.Mount, dir string) error {
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	src := filepath.Join(from.Path, dir)
	if info, err := os.Stat(src); err != nil || !info.IsDir() || len(v.Options) > 0 {
		return nil //nolint:nilerr // there is nothing to copy
	}
	if have, err := os.ReadDir(v.Path); err != nil || len(have) > 0 {
		return err
	}
	return os.CopyFS(v.Path, os.DirFS(src))
}

// Size adds the files' sizes up.
func (s *Volumes) Size(_ context.Context, name string) (int64, error) {
	v, err := s.Get(name)
	if err != nil {
		return 0, err
	}
	var size int64
	return size, filepath.Walk(v.Path, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
}

// Mount notes that the options are in place.
func (s *Volumes) Mount(_ context.Context, name string, _ moss.ContainerID) error {
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounted[name] = len(v.Options) > 0
	return nil
}

// Unmount notes that they are not.
func (s *Volumes) Unmount(_ context.Context, name string, _ moss.ContainerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mounted, name)
	return nil
}

// Expose turns volumes into binds.
func (s *Volumes) Expose(_ context.Context, id moss.ContainerID, points []moss.MountPoint) ([]moss.MountPoint, error) {
	out := slices.Clone(points)
	for i := range out {
		if out[i].Type != moss.MountVolume && out[i].Type != moss.MountImage {
			continue
		}
		out[i].Type, out[i].Source = moss.MountBind, filepath.Join(out[i].Source, out[i].SubPath)
		if _, err := os.Stat(out[i].Source); err != nil {
			return nil, moss.Errorf(moss.Invalid, "cannot access path %s: no such file or directory", out[i].Source)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exposed[id] = true
	return out, nil
}

// Conceal forgets that.
func (s *Volumes) Conceal(_ context.Context, id moss.ContainerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.exposed, id)
	return nil
}

// Look is Get: there are no drivers but the one.
func (s *Volumes) Look(_ context.Context, name string) (moss.Volume, error) { return s.Get(name) }

// Listed is List.
func (s *Volumes) Listed(context.Context) ([]moss.Volume, []string) { return s.List(), nil }

// Adopt finds what is there.
func (s *Volumes) Adopt(_ context.Context, name string) (moss.Volume, error) { return s.Get(name) }

// Forget leaves local volumes alone.
func (s *Volumes) Forget(_ context.Context, name string) error {
	_, err := s.Get(name)
	return err
}

// Settle has nothing to let go of.
func (s *Volumes) Settle(func(moss.ContainerID) bool) {}
