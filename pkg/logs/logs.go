package logs

import (
	"errors"
	"path/filepath"
	"sync"

	"github.com/moss-containers/moss/pkg/logs/journal"
	"github.com/moss-containers/moss/pkg/moss"
)

// Logs keeps the logs of all containers of one engine.
type Logs struct {
	journal Journal
	plugins Plugins // nil for none
	fifos   string  // where their FIFOs are

	mu       sync.Mutex
	live     map[moss.ContainerID]*sink
	journald map[moss.ContainerID]*journaldRun // the last run of each
}

// Journal says where the systemd journal is.
type Journal struct {
	Socket string
	Dirs   []string
}

// New returns an empty Logs.
func New() *Logs {
	return &Logs{
		journal: Journal{Socket: journal.Socket, Dirs: journal.Dirs()},
		live:    map[moss.ContainerID]*sink{}, journald: map[moss.ContainerID]*journaldRun{},
	}
}

// store is where and how a log that can be read is kept.
type store struct {
	path    string
	format  format
	options fileOptions
}

// storeOf returns a container's; false where the driver keeps none.
func storeOf(c *moss.Container) (store, bool) {
	s, err := parse(c.Host.LogConfig)
	if err != nil { // a record of a daemon that knew more
		return store{}, false
	}
	st := store{path: Path(c), format: compact{}, options: s.file}
	if s.driver == driverJSON {
		st.format = jsonFormat{}
	}
	return st, st.path != ""
}

// Path returns the file of a container's log: the record's LogPath, or where
// the driver puts it. It is empty for a driver that keeps none.
func Path(c *moss.Container) string {
	s, err := parse(c.Host.LogConfig)
	switch {
	case err != nil:
		return ""
	case s.driver == driverJSON && c.LogPath != "":
		return c.LogPath
	case s.driver == driverJSON:
		return filepath.Join(c.Dir, string(c.ID)+"-json.log")
	case s.driver == driverLocal:
		return filepath.Join(c.Dir, "local-logs", "container.log")
	case s.cached:
		return filepath.Join(c.Dir, "container-cached.log")
	default:
		return ""
	}
}

// Open starts or continues the log of a container; a nil sink means that
// nothing is kept. The end of the file that a killed daemon left in the middle
// of an entry is cut off. The sink of a file can also tell and go back to a
// position, as pkg/stdio's Rewinder wants it, unless it is non-blocking.
func (l *Logs) Open(c *moss.Container) (moss.LogSink, error) {
	s, err := parse(c.Host.LogConfig)
	if err != nil {
		return nil, err
	}
	out, err := l.open(c, s)
	if err != nil || out == nil {
		return nil, moss.Wrap(err, "open the log of", c.ID.Short())
	}
	if s.ring > 0 {
		return newRing(out, s.ring), nil
	}
	return out, nil
}

func (l *Logs) open(c *moss.Container, s settings) (moss.LogSink, error) {
	if s.plugin {
		return l.openPlugin(c, s)
	}
	switch s.driver {
	case driverNone:
		return nil, nil
	case driverJournald:
		return l.openJournald(c)
	case driverJSON, driverLocal:
		return l.openFile(c)
	default:
		return l.openRemote(c, s)
	}
}

// openFile opens the log's or the cache's file.
func (l *Logs) openFile(c *moss.Container) (moss.LogSink, error) {
	st, _ := storeOf(c)
	if _, ok := st.format.(jsonFormat); ok {
		attrs, err := jsonAttrs(c)
		if err != nil {
			return nil, err
		}
		st.format = jsonFormat{attrs: attrs}
	}
	s := newSink(st.path, st.options, st.format)
	s.closed = func() { l.forget(c.ID, s) }
	l.mu.Lock()
	old := l.live[c.ID]
	l.mu.Unlock()
	if old != nil {
		_ = old.Close() // a run whose end was never told; its readers end here
	}
	if err := s.open(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.live[c.ID] = s
	l.mu.Unlock()
	return s, nil
}

func (l *Logs) forget(id moss.ContainerID, s *sink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live[id] == s {
		delete(l.live, id)
	}
}

// Remove deletes the log with its rotated files; nil when there is none.
func (l *Logs) Remove(c *moss.Container) error {
	l.mu.Lock()
	s := l.live[c.ID]
	delete(l.journald, c.ID)
	l.mu.Unlock()
	var errs []error
	if s != nil {
		errs = append(errs, s.Close())
	}
	path := Path(c)
	if path == "" {
		return errors.Join(errs...)
	}
	errs = append(errs, removeFiles(path))
	return moss.Wrap(errors.Join(errs...), "remove the log of", c.ID.Short())
}

func (l *Logs) sink(id moss.ContainerID) *sink {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live[id]
}
