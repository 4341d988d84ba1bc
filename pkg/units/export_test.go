package units

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Disconnect cuts the connection and returns when its loss is seen.
func Disconnect(m *Manager) {
	m.mu.Lock()
	l := m.link
	m.mu.Unlock()
	_ = l.conn.Close() // its error is that it is closed
	for {
		m.mu.Lock()
		gone, changed := m.link != l, m.changed
		m.mu.Unlock()
		if gone {
			return
		}
		<-changed
	}
}

// CountOOMsIn has the kernel's counts read from files of that directory, by unit, which are made for them.
func CountOOMsIn(m *Manager, dir string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ooms.where = func(pid int, unit string) string {
		file := filepath.Join(dir, "slice", unit, strconv.Itoa(pid), "memory.events")
		if _, err := os.Stat(file); err != nil {
			_ = errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte("oom_kill 0\n"), 0o600)) // the watch says so
		}
		return file
	}
	for short, w := range maps.Clone(m.ooms.of) {
		m.ooms.forget(short)
		m.ooms.follow(short, m.o.Prefix+"-"+short+".service", w.pid)
	}
}

// ReadJournalBy has a Manager read the journal by a function.
func ReadJournalBy(m *Manager, f func(name, value string, since time.Time, each func(time.Time, map[string]string)) error) {
	m.o.Journal = f
}

// PastOnly is a Manager that knows of nothing but the journal.
func PastOnly(prefix string, f func(name, value string, since time.Time, each func(time.Time, map[string]string)) error) *Manager {
	return &Manager{o: Options{Prefix: prefix, Journal: f}}
}
