package fake

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Logs keeps logs in memory. It has the drivers json-file, without options,
// and none.
type Logs struct {
	mu      sync.Mutex
	changed *sync.Cond
	logs    map[moss.ContainerID]*logFile
}

var _ engine.Logs = (*Logs)(nil)

type logFile struct {
	lines []moss.LogLine // a line in pieces is several, all but the last Partial
	open  bool
	run   int
}

// NewLogs returns a Logs without logs.
func NewLogs() *Logs {
	l := &Logs{logs: map[moss.ContainerID]*logFile{}}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// Check implements engine.Logs.
func (l *Logs) Check(c moss.LogConfig) error {
	switch {
	case c.Driver != "json-file" && c.Driver != "none":
		return moss.Errorf(moss.Invalid, "logger: no log driver named '%s' is registered", c.Driver)
	case len(c.Options) > 0:
		return moss.Errorf(moss.Invalid, "unknown log opt for %s log driver", c.Driver)
	}
	return nil
}

// Open implements engine.Logs.
func (l *Logs) Open(c *moss.Container) (engine.LogSink, error) {
	if err := l.Check(c.Host.LogConfig); err != nil || c.Host.LogConfig.Driver == "none" {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.logs[c.ID]
	if f == nil {
		f = &logFile{}
		l.logs[c.ID] = f
	}
	f.open = true
	f.run++
	l.changed.Broadcast()
	return &logSink{l: l, f: f, run: f.run}, nil
}

type logSink struct {
	l   *Logs
	f   *logFile
	run int
}

func (s *logSink) Write(kind moss.StreamKind, at time.Time, p []byte) error {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if !s.f.open || s.f.run != s.run {
		return moss.Errorf(moss.Internal, "the log is closed")
	}
	for text := range bytes.Lines(p) {
		at := at
		for _, before := range slices.Backward(s.f.lines) { // the time of a line is that of its beginning
			if before.Stream == kind {
				if before.Partial {
					at = before.Time
				}
				break
			}
		}
		s.f.lines = append(s.f.lines, moss.LogLine{Stream: kind, Time: at, Text: bytes.Clone(text), Partial: !bytes.HasSuffix(text, []byte("\n"))})
	}
	s.l.changed.Broadcast()
	return nil
}

func (s *logSink) Close() error {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if s.f.run == s.run {
		s.f.open = false
	}
	s.l.changed.Broadcast()
	return nil
}

// Read implements engine.Logs.
func (l *Logs) Read(ctx context.Context, c *moss.Container, q moss.LogQuery, fn func(moss.LogLine) error) error {
	if c.Host.LogConfig.Driver == "none" {
		return moss.Errorf(moss.NotImplemented, "configured logging driver does not support reading")
	}
	defer context.AfterFunc(ctx, l.wake)()
	if !q.Until.IsZero() {
		defer time.AfterFunc(time.Until(q.Until), l.wake).Stop()
	}
	at := l.tail(c.ID, q)
	for {
		lines, more := l.next(ctx, c.ID, q, at)
		at += len(lines)
		for _, line := range lines {
			if !logWanted(q, line) || line.Time.Before(q.Since) {
				continue
			}
			if !q.Until.IsZero() && line.Time.After(q.Until) {
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(line); err != nil {
				return err
			}
		}
		if !more {
			return ctx.Err()
		}
	}
}

func (l *Logs) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Broadcast()
}

// tail returns the index of the first line of a query.
func (l *Logs) tail(id moss.ContainerID, q moss.LogQuery) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.logs[id]
	if f == nil || q.Tail < 0 {
		return 0
	}
	left, seen := q.Tail, map[moss.StreamKind]bool{}
	for i, line := range slices.Backward(f.lines) {
		if !logWanted(q, line) {
			continue
		}
		if !line.Partial || !seen[line.Stream] {
			if left == 0 {
				return i + 1
			}
			left--
		}
		seen[line.Stream] = true
	}
	return 0
}

// next returns the lines from an index on, waiting for some where the query
// follows, and whether more can come.
func (l *Logs) next(ctx context.Context, id moss.ContainerID, q moss.LogQuery, at int) ([]moss.LogLine, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.logs[id]
	if f == nil {
		return nil, false
	}
	over := func() bool { return !q.Until.IsZero() && !time.Now().Before(q.Until) }
	for q.Follow && f.open && at >= len(f.lines) && ctx.Err() == nil && !over() {
		l.changed.Wait()
	}
	if at > len(f.lines) { // removed meanwhile
		return nil, false
	}
	return slices.Clone(f.lines[at:]), q.Follow && f.open && ctx.Err() == nil && !over()
}

func logWanted(q moss.LogQuery, l moss.LogLine) bool {
	return l.Stream == moss.Stdout && q.Stdout || l.Stream == moss.Stderr && q.Stderr
}

// Remove implements engine.Logs.
func (l *Logs) Remove(c *moss.Container) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.logs[c.ID]; f != nil {
		f.open, f.lines = false, nil
		delete(l.logs, c.ID)
		l.changed.Broadcast()
	}
	return nil
}
