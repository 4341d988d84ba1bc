package stdio

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moss-containers/moss/pkg/lately"
	"github.com/moss-containers/moss/pkg/moss"
)

// Config says where a Hub keeps what it has.
type Config struct {
	Dir     string // for marks; on a tmpfs, R/stdio
	Console string // for console sockets; its path must be short, R/console
	Store   Store  // nil for none: streams end with the daemon
	Spill   string // directory, on a disk, for what slow clients have not read; "" has processes wait for them
	// Failed is told of the first error of each run's output, such as a log that cannot
	// be written: the process goes on, maybe for months. nil for nobody.
	Failed func(moss.StreamID, error)
}

// Hub has the streams of all processes of one engine. Its methods may be
// called from several goroutines, those that change a stream by one at a time.
type Hub struct {
	cfg   Config
	store Store
	spare scratches

	most  int64         // what waits on disk for one client
	large atomic.Int32  // how many pipes are, of those that are hot
	moved lately.Moment // when output was last seen

	mu      sync.Mutex
	streams map[moss.StreamID]*stream
}

// New returns a Hub and makes its directories.
func New(cfg Config) (*Hub, error) {
	for _, d := range []string{cfg.Dir, cfg.Console} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, moss.Wrap(err, "keep standard streams", "")
		}
	}
	h := &Hub{cfg: cfg, store: cfg.Store, most: maxSpilled, streams: map[moss.StreamID]*stream{}}
	if h.store == nil {
		h.store = noStore{}
	}
	return h, nil
}

// Open makes the streams of one run, stores our ends, and pumps output into sink
// (nil for none) and to those attached. Errors: Conflict while an earlier run
// of the id is not finished.
func (h *Hub) Open(_ context.Context, id moss.StreamID, spec moss.StdioSpec, sink moss.LogSink) (moss.ChildStdio, error) {
	s, err := h.claim(id)
	if err != nil {
		return moss.ChildStdio{}, err
	}
	e, child, err := h.makeEnds(id, spec, sink)
	if err != nil {
		h.unclaim(s)
		return moss.ChildStdio{}, moss.Wrap(err, "make the standard streams of", short(id))
	}
	s.begin(spec, sink, e)
	return child, nil
}

// Ready returns when our ends are safely stored: with a terminal, when the
// runtime has sent it.
func (h *Hub) Ready(ctx context.Context, id moss.StreamID) error {
	s := h.find(id)
	if s == nil {
		return moss.Errorf(moss.NotFound, "%s has no standard streams", short(id))
	}
	if err := s.waitEnds(ctx); err != nil {
		return moss.Wrap(err, "store the standard streams of", short(id))
	}
	if !s.persists() {
		return nil
	}
	return moss.Wrap(h.store.Barrier(ctx), "store the standard streams of", short(id))
}

// Restore finds the ends of a running process in the descriptor store and
// pumps on; what the log lacked of what was read already, it gets first. Where
// ends are missing the error says which; the others are served all the same.
func (h *Hub) Restore(_ context.Context, id moss.StreamID, spec moss.StdioSpec, sink moss.LogSink) error {
	s, err := h.claim(id)
	if err != nil {
		return err
	}
	e, err := h.findEnds(id, spec, sink)
	s.begin(spec, sink, e)
	return moss.Wrap(err, "restore the standard streams of", short(id))
}

// Finish is called once the process has ended: it pumps what is left, ends the
// attachments once they have written it, closes and forgets the ends and
// closes the sink. The error tells what the sink could not take. Nil for an id
// that has no streams.
func (h *Hub) Finish(ctx context.Context, id moss.StreamID) error {
	s := h.find(id)
	if s == nil || !s.started() {
		return nil
	}
	if err := s.drain(ctx); err != nil {
		return moss.Wrap(err, "finish the standard streams of", short(id))
	}
	stored, err := s.closeEnds()
	err = errors.Join(err, h.forget(id, stored))
	if !s.end() {
		h.drop(s)
	}
	return moss.Wrap(err, "finish the standard streams of", short(id))
}

// Drop ends the attachments of a process that will not run, and forgets the
// output of an ended exec that nobody came for.
func (h *Hub) Drop(id moss.StreamID) {
	s := h.find(id)
	if s == nil || s.started() && !s.over() {
		return // Finish ends it
	}
	s.end()
	h.drop(s)
}

// Forget closes stored ends that belong to none of the ids, and removes what
// else is left of those streams.
func (h *Hub) Forget(keep map[moss.StreamID]bool) error {
	var errs []error
	for _, name := range h.store.Names() {
		id, ok := streamOf(name)
		if !ok || keep[id] {
			continue
		}
		if f := take(h.store, name); f != nil {
			errs = append(errs, f.Close())
		}
		errs = append(errs, h.store.Remove(name))
	}
	entries, err := os.ReadDir(h.cfg.Dir)
	errs = append(errs, err)
	for _, e := range entries {
		id := moss.StreamID(strings.TrimSuffix(e.Name(), markSuffix))
		if !keep[id] && h.find(id) == nil {
			errs = append(errs, os.Remove(filepath.Join(h.cfg.Dir, e.Name())))
		}
	}
	return moss.Wrap(errors.Join(errs...), "forget old standard streams", "")
}

const markSuffix = ".mark"

func (h *Hub) markPath(id moss.StreamID) string {
	return filepath.Join(h.cfg.Dir, string(id)+markSuffix)
}

// forget takes the ends of a stream out of the store.
func (h *Hub) forget(id moss.StreamID, stored []string) error {
	var errs []error
	for _, end := range stored {
		errs = append(errs, h.store.Remove(string(id)+end))
	}
	if err := os.Remove(h.markPath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (h *Hub) disk() disk { return disk{dir: h.cfg.Spill, most: h.most} }

// Moved tells when a process last printed something; zero for never.
func (h *Hub) Moved() time.Time { return h.moved.Time() }

func (h *Hub) find(id moss.StreamID) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams[id]
}

// enter returns the stream of an id, a new one where there is none.
func (h *Hub) enterLocked(id moss.StreamID) *stream {
	s := h.streams[id]
	if s == nil {
		s = newStream(h, id)
		h.streams[id] = s
	}
	return s
}

// claim returns a stream that was not opened yet, and marks it as opened.
func (h *Hub) claim(id moss.StreamID) (*stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.enterLocked(id)
	if !s.claim() {
		return nil, moss.Errorf(moss.Conflict, "the standard streams of %s are open already", short(id))
	}
	return s, nil
}

// unclaim makes a stream that could not be opened one that waits again.
func (h *Hub) unclaim(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.unclaim() {
		delete(h.streams, s.id)
	}
}

func (h *Hub) drop(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[s.id] == s {
		delete(h.streams, s.id)
	}
}

func short(id moss.StreamID) string { return moss.ContainerID(id).Short() }
