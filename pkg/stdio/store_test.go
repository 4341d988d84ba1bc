package stdio

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// memStore is the manager: it keeps copies of files.
type memStore struct {
	mu        sync.Mutex
	files     map[string]*os.File
	inherited map[string]*os.File
}

func newMemStore() *memStore {
	return &memStore{files: map[string]*os.File{}, inherited: map[string]*os.File{}}
}

func dup(f *os.File) *os.File {
	var g *os.File
	if err := control(f, func(fd int) (err error) { g, err = duplicate(fd); return err }); err != nil {
		panic(err)
	}
	return g
}

func (m *memStore) Put(name string, files ...*os.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = dup(files[0])
	return nil
}

func (m *memStore) Barrier(context.Context) error { return nil }

func (m *memStore) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.files[name]; f != nil {
		delete(m.files, name)
		return f.Close()
	}
	return nil
}

func (m *memStore) Take(name string) []*os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.inherited[name]
	if f == nil {
		return nil
	}
	delete(m.inherited, name)
	return []*os.File{f}
}

func (m *memStore) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.inherited))
}

// restart is what a new daemon gets.
func (m *memStore) restart() *memStore {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := newMemStore()
	for name, f := range m.files {
		n.files[name], n.inherited[name] = f, dup(f)
	}
	return n
}

func (m *memStore) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.files)
}

func newHub(t testing.TB, store Store) *Hub {
	t.Helper()
	dir, err := os.MkdirTemp("", "stdio") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h, err := New(Config{Dir: dir + "/stdio", Console: dir + "/console", Store: store, Spill: dir})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newID() moss.StreamID { return moss.StreamID(moss.NewHexID()) }
