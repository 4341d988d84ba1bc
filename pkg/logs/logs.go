package logs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// Logs keeps the logs of all containers of one engine.
type Logs struct {
	mu   sync.Mutex
	live map[moss.ContainerID]*sink
}

// New returns an empty Logs.
func New() *Logs { return &Logs{live: map[moss.ContainerID]*sink{}} }

// Path returns the file of a container's log: the record's LogPath, or where
// json-file puts it. It is empty for a driver that keeps none.
func Path(c *moss.Container) string {
	switch {
	case c.Host.LogConfig.Driver == driverNone:
		return ""
	case c.LogPath != "":
		return c.LogPath
	default:
		return filepath.Join(c.Dir, string(c.ID)+"-json.log")
	}
}

// Open starts or continues the log of a container; a nil sink means that
// nothing is kept. The end of the file that a killed daemon left in the middle
// of an entry is cut off. The sink can also tell and go back to a position, as
// pkg/stdio's Rewinder wants it.
func (l *Logs) Open(c *moss.Container) (moss.LogSink, error) {
	if err := l.Check(c.Host.LogConfig); err != nil {
		return nil, err
	}
	path := Path(c)
	if path == "" {
		return nil, nil
	}
	o, err := parseOptions(c.Host.LogConfig.Options)
	if err != nil {
		return nil, err
	}
	s := &sink{path: path, options: o, changed: make(chan struct{})}
	if err := s.open(); err != nil {
		return nil, moss.Wrap(err, "open the log of", c.ID.Short())
	}
	s.closed = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.live[c.ID] == s {
			delete(l.live, c.ID)
		}
	}
	l.mu.Lock()
	old := l.live[c.ID]
	l.live[c.ID] = s
	l.mu.Unlock()
	if old != nil {
		_ = old.Close() // a run whose end was never told; its readers end here
	}
	return s, nil
}

// Remove deletes the log with its rotated files; nil when there is none.
func (l *Logs) Remove(c *moss.Container) error {
	l.mu.Lock()
	s := l.live[c.ID]
	l.mu.Unlock()
	var errs []error
	if s != nil {
		errs = append(errs, s.Close())
	}
	path := Path(c)
	if path == "" {
		return errors.Join(errs...)
	}
	for _, p := range append(rotated(path), path) {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return moss.Wrap(errors.Join(errs...), "remove the log of", c.ID.Short())
}

func (l *Logs) sink(id moss.ContainerID) *sink {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live[id]
}

// rotated names the rotated files of a log, the oldest, which has the highest
// number, first.
func rotated(path string) []string {
	var ns []int
	entries, _ := os.ReadDir(filepath.Dir(path)) // no directory, no files
	for _, e := range entries {
		if s, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+"."); ok {
			if n, err := strconv.Atoi(s); err == nil && n > 0 && strconv.Itoa(n) == s {
				ns = append(ns, n)
			}
		}
	}
	slices.Sort(ns)
	slices.Reverse(ns)
	paths := make([]string, len(ns))
	for i, n := range ns {
		paths[i] = path + "." + strconv.Itoa(n)
	}
	return paths
}
