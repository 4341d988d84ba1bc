package storage

import (
	"path/filepath"
	"strings"
	"sync"

	"github.com/containers/storage/pkg/mount"

	"github.com/moss-containers/moss/pkg/moss"
)

// mounts knows which root file systems may be mounted: those that were when the
// store was opened, and those mounted since. A start unmounts every container
// that stands still, and asking the store for each of a thousand takes longer
// than all the rest.
type mounts struct {
	mu    sync.Mutex
	maybe map[moss.ContainerID]bool // nil: any
}

// open looks for what earlier processes mounted, where the kernel and where the
// store has it.
func (m *mounts) open(s *Storage) error {
	all, err := s.store.Containers()
	if err != nil {
		return err
	}
	now, err := mount.GetMounts()
	if err != nil {
		return err
	}
	at := map[string]bool{} // layers
	for _, one := range now {
		if dir, ok := strings.CutSuffix(one.Mountpoint, "/merged"); ok {
			at[filepath.Base(dir)] = true
		}
	}
	counted, err := readList[mountPoint](s.lists.mounts(), false)
	if err != nil {
		return err
	}
	for _, one := range counted {
		at[one.ID] = true
	}
	maybe := make(map[moss.ContainerID]bool, len(at))
	for _, c := range all {
		if at[c.LayerID] {
			maybe[moss.ContainerID(c.ID)] = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.maybe = maybe
	return nil
}

// add comes before a mount.
func (m *mounts) add(id moss.ContainerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.maybe != nil {
		m.maybe[id] = true
	}
}

// drop comes after an unmount.
func (m *mounts) drop(id moss.ContainerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.maybe, id)
}

func (m *mounts) has(id moss.ContainerID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.maybe == nil || m.maybe[id]
}
