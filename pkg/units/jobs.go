package units

import (
	"context"

	"github.com/godbus/dbus/v5"
)

// jobWait collects the ends of a unit's jobs. It must exist before the call
// that makes the job: the manager may say that the job is done before the
// caller has looked at the reply.
type jobWait struct {
	m    *Manager
	unit string
	ends chan jobEnd
}

type jobEnd struct {
	path   dbus.ObjectPath
	result string // "done", "failed", "canceled", "timeout", "dependency", "skipped"
}

// expect begins to listen for the jobs of a unit.
func (m *Manager) expect(unit string) *jobWait {
	// One caller at a time works on a unit; others' jobs are few.
	w := &jobWait{m: m, unit: unit, ends: make(chan jobEnd, 64)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[unit] == nil {
		m.jobs[unit] = map[*jobWait]struct{}{}
	}
	m.jobs[unit][w] = struct{}{}
	return w
}

// drop ends the listening.
func (w *jobWait) drop() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	delete(w.m.jobs[w.unit], w)
	if len(w.m.jobs[w.unit]) == 0 {
		delete(w.m.jobs, w.unit)
	}
}

// wait returns how a job ended; "" when the connection was lost meanwhile.
func (w *jobWait) wait(ctx context.Context, l *link, job dbus.ObjectPath) (string, error) {
	for {
		select {
		case e := <-w.ends:
			if e.path == job {
				return e.result, nil
			}
		case <-l.lost():
			return "", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

func (m *Manager) onJobRemoved(s *dbus.Signal) {
	var id uint32
	var e jobEnd
	var unit string
	if dbus.Store(s.Body, &id, &e.path, &unit, &e.result) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for w := range m.jobs[unit] {
		select {
		case w.ends <- e:
		default: // its reader has left
		}
	}
}
