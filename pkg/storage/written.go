package storage

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Written is the size of the files that a container changed or made. It is
// kept while the container is not mounted.
func (s *Storage) Written(ctx context.Context, id moss.ContainerID) (int64, error) {
	const op = "measure the changes of"
	if size, ok := s.sizes.get(id); ok {
		return size, nil
	}
	p, err := s.place(id)
	if err != nil {
		return 0, classified(err, op, id)
	}
	// Nobody writes from here on where it is not mounted, until it is.
	turn := s.sizes.turn(id)
	n, mountErr := s.mounted(id)
	size, err := written(ctx, p, s.choice.mountProgram != "")
	if err != nil {
		return 0, classified(err, op, id)
	}
	if mountErr == nil && n == 0 {
		s.sizes.put(id, size, turn)
	}
	return size, nil
}

func written(ctx context.Context, p place, marks bool) (int64, error) {
	top, err := os.Open(p.top)
	if err != nil {
		return 0, err
	}
	defer func() { _ = top.Close() }() // only read
	m := meter{ctx: ctx, seen: map[inode]bool{}, marks: marks}
	if p.old == "" {
		err := m.add(top, nil)
		return m.size, err
	}
	old, err := os.Open(p.old)
	if err != nil {
		return 0, err
	}
	defer func() { _ = old.Close() }() // only read
	err = m.add(top, old)
	return m.size, err
}

// meter adds up the sizes of files.
type meter struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	seen  map[inode]bool
	marks bool
	size  int64
}

func (m *meter) add(dir, old *os.File) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	list, _, err := merge([]*os.File{dir}, m.marks)
	if err != nil {
		return err
	}
	for _, e := range list {
		switch {
		case e.gone:
		case e.isDir():
			if err := m.sub(dir, old, e.name); err != nil {
				return err
			}
		case e.st.Mode&unix.S_IFMT == unix.S_IFREG && !same(dir, old, e):
			id := inode{e.st.Dev, e.st.Ino}
			if e.st.Nlink > 1 && m.seen[id] {
				continue
			}
			m.seen[id] = true
			m.size += e.st.Size
		}
	}
	return nil
}

func (m *meter) sub(dir, old *os.File, name string) error {
	d, err := openDir(dir, name)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only read
	if old == nil {
		return m.add(d, nil)
	}
	o, err := openDir(old, name)
	if vanished(err) {
		return m.add(d, nil)
	}
	if err != nil {
		return err
	}
	defer func() { _ = o.Close() }() // only read
	return m.add(d, o)
}

// sizes remembers how much stopped containers have written.
type sizes struct {
	mu    sync.Mutex
	known map[moss.ContainerID]int64
	turns map[moss.ContainerID]int // counts the mounts
}

func (s *sizes) get(id moss.ContainerID) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, ok := s.known[id]
	return n, ok
}

func (s *sizes) turn(id moss.ContainerID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.turns[id]
}

// put keeps a size that was measured after turn, unless the container was mounted since.
func (s *sizes) put(id moss.ContainerID, n int64, turn int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.turns[id] != turn {
		return
	}
	if s.known == nil {
		s.known = map[moss.ContainerID]int64{}
	}
	s.known[id] = n
}

// drop is called at each mount.
func (s *sizes) drop(id moss.ContainerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, id)
	if s.turns == nil {
		s.turns = map[moss.ContainerID]int{}
	}
	s.turns[id]++
}

// forget is called when a container is removed.
func (s *sizes) forget(id moss.ContainerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, id)
	delete(s.turns, id)
}
