package fake

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Secrets keeps secrets and configs in memory, and places them in a plain directory.
type Secrets struct {
	dir string

	mu   sync.Mutex
	all  map[moss.SecretID]moss.Secret
	data map[moss.SecretID][]byte
}

var (
	_ engine.Secrets     = (*Secrets)(nil)
	_ engine.SecretFiles = (*Secrets)(nil)
)

// NewSecrets makes a store without secrets.
func NewSecrets(dir string) *Secrets {
	return &Secrets{dir: dir, all: make(map[moss.SecretID]moss.Secret), data: make(map[moss.SecretID][]byte)}
}

// Placed names the containers that have files.
func (s *Secrets) Placed() (ids []moss.ContainerID) {
	entries, _ := os.ReadDir(s.dir) // no directory is no files
	for _, e := range entries {
		ids = append(ids, moss.ContainerID(e.Name()))
	}
	return ids
}

// Create makes one.
func (s *Secrets) Create(_ context.Context, r moss.SecretRequest) (moss.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Name == "" || len(r.Data) == 0 {
		return moss.Secret{}, moss.Errorf(moss.Invalid, "the name or the data is missing")
	}
	for _, o := range s.all {
		if o.Kind == r.Kind && o.Name == r.Name {
			return moss.Secret{}, moss.Errorf(moss.Conflict, "%s %s already exists", r.Kind, r.Name)
		}
	}
	one := moss.Secret{ID: moss.SecretID(moss.NewHexID()[:25]), Kind: r.Kind, Name: r.Name, Labels: maps.Clone(r.Labels), Created: time.Now(), Updated: time.Now(), Version: 1}
	s.all[one.ID], s.data[one.ID] = one, slices.Clone(r.Data)
	return one, nil
}

// List returns those of a kind.
func (s *Secrets) List(kind moss.SecretKind) (list []moss.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.all {
		if o.Kind == kind {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b moss.Secret) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Relabel changes the labels.
func (s *Secrets) Relabel(_ context.Context, id moss.SecretID, version uint64, labels map[string]string) (moss.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.all[id]
	if !ok {
		return one, moss.Errorf(moss.NotFound, "%s not found", id)
	}
	if one.Version != version {
		return one, moss.Errorf(moss.Invalid, "update out of sequence")
	}
	one.Version, one.Updated, one.Labels = version+1, time.Now(), maps.Clone(labels)
	s.all[id] = one
	return one, nil
}

// Remove takes one away.
func (s *Secrets) Remove(_ context.Context, id moss.SecretID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.all[id]; !ok {
		return moss.Errorf(moss.NotFound, "%s not found", id)
	}
	delete(s.all, id)
	delete(s.data, id)
	return nil
}

// Data is the content.
func (s *Secrets) Data(_ context.Context, id moss.SecretID) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[id]
	if !ok {
		return nil, moss.Errorf(moss.NotFound, "%s not found", id)
	}
	return slices.Clone(data), nil
}

// Place writes a container's files.
func (s *Secrets) Place(ctx context.Context, id moss.ContainerID, uses []moss.SecretUse) ([]moss.MountPoint, error) {
	dir := filepath.Join(s.dir, string(id))
	if err := s.Withdraw(ctx, id); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var points []moss.MountPoint
	for i, u := range uses {
		data, err := s.Data(ctx, u.ID)
		if err != nil {
			_ = s.Withdraw(ctx, id) // already failing
			return nil, err
		}
		name := filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return nil, err
		}
		if err := os.Chmod(name, os.FileMode(u.Mode&0o777)); err != nil {
			return nil, err
		}
		points = append(points, moss.MountPoint{Type: moss.MountBind, Source: name, Target: u.Target, ReadOnly: true, Propagation: "rprivate"})
	}
	return points, nil
}

// Withdraw removes them.
func (s *Secrets) Withdraw(_ context.Context, id moss.ContainerID) error {
	return os.RemoveAll(filepath.Join(s.dir, string(id)))
}
