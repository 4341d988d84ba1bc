package units

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// List implements the engine's port. Units that are gone are not in it.
func (m *Manager) List(ctx context.Context) ([]moss.UnitStatus, error) {
	if err := m.do(ctx, func(l *link) error { return m.sync(ctx, l) }); err != nil {
		return nil, moss.Wrap(err, "list the units of the containers", "")
	}
	return m.present(), nil
}

func (m *Manager) present() []moss.UnitStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.presentLocked()
}

func (m *Manager) presentLocked() []moss.UnitStatus {
	all := make([]moss.UnitStatus, 0, len(m.units))
	for short, u := range m.units {
		if st := m.statusLocked(short, u); st.Phase != moss.UnitGone {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, func(a, b moss.UnitStatus) int { return strings.Compare(a.Short, b.Short) })
	return all
}

// Watch implements the engine's port. It begins with the present status of
// every unit, so that nothing is lost between a List and a Watch.
func (m *Manager) Watch(ctx context.Context, fn func(moss.UnitStatus)) error {
	w := &watcher{ready: make(chan struct{}, 1)}
	m.mu.Lock()
	for _, st := range m.presentLocked() {
		w.put(st)
	}
	m.watchers[w] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, w)
		for _, n := range w.take() { // none of it will be told; nobody shall wait for it
			if n.settled != nil {
				close(n.settled)
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-m.ctx.Done():
			return moss.Errorf(moss.Unavailable, "the connection to the user manager is closed")
		case <-w.ready:
		}
		for _, n := range w.take() {
			if ctx.Err() != nil && n.settled == nil {
				continue
			}
			if n.settled != nil {
				close(n.settled)
				continue
			}
			fn(n.st)
		}
	}
}

// watcher is the queue of one Watch; it has no limit, as the reader of the
// connection must never wait.
type watcher struct {
	ready chan struct{}
	mu    sync.Mutex
	queue []news
}

// news is a status, or the question whether all before it has been told.
type news struct {
	st      moss.UnitStatus
	settled chan struct{}
}

// Settle returns when every Watch has been told all that the manager had to say
// until now. A daemon that is stopped together with its containers settles
// first: their ends come in the same moment as its own SIGTERM.
func (m *Manager) Settle(ctx context.Context) error {
	var version string
	// The manager's answer comes after the signals it sent before.
	if err := m.do(ctx, func(*link) error { return m.property(ctx, "Version", &version) }); err != nil {
		return err
	}
	m.mu.Lock()
	waits := make([]chan struct{}, 0, len(m.watchers))
	for w := range m.watchers {
		done := make(chan struct{})
		waits = append(waits, done)
		w.add(news{settled: done})
	}
	m.mu.Unlock()
	for _, done := range waits {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (w *watcher) put(st moss.UnitStatus) { w.add(news{st: st}) }

func (w *watcher) add(n news) {
	w.mu.Lock()
	w.queue = append(w.queue, n)
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []news {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queue
	w.queue = nil
	return q
}
