package logs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Read calls fn with each line asked for, in order; with Follow until the
// run's sink is closed or ctx ends. A line whose pieces are several entries
// comes as several lines with the time of the first, all but the last with
// Partial; it is chosen or left out as a whole. The tail is taken before the
// bounds of time, as docker does. Texts may be kept.
//
// What cannot be read as an entry is passed over. Errors: NotImplemented for a
// driver that keeps nothing; ctx's error; fn's.
func (l *Logs) Read(ctx context.Context, c *moss.Container, q moss.LogQuery, fn func(moss.LogLine) error) error {
	if c.Host.LogConfig.Driver == driverJournald {
		return l.readJournald(ctx, c, q, fn)
	}
	if _, ours := drivers[c.Host.LogConfig.Driver]; !ours && c.Host.LogConfig.Driver != "" {
		return l.readPlugin(ctx, c, q, fn)
	}
	return l.readFile(ctx, c, q, fn)
}

// readFile reads the log's or the cache's file.
func (l *Logs) readFile(ctx context.Context, c *moss.Container, q moss.LogQuery, fn func(moss.LogLine) error) error {
	st, ok := storeOf(c)
	if !ok {
		return moss.Errorf(moss.NotImplemented, "configured logging driver does not support reading")
	}
	r := &reader{q: q, fn: fn, sink: l.sink(c.ID), path: st.path, dec: st.format.decoder()}
	defer r.close()
	if err := r.open(); err != nil {
		return moss.Wrap(err, "read the log of", c.ID.Short())
	}
	return r.run(ctx)
}

// reader is one call of Read.
type reader struct {
	q     moss.LogQuery
	fn    func(moss.LogLine) error
	sink  *sink // nil when the log is not being written
	path  string
	files []logFile // oldest first; the last is the present one
	limit int64     // how far the present file may be read
	turn  int       // of the sink when files were opened
	ended bool      // the sink is closed
	dec   decoder
	lines [3]lineState // by stream
}

// lineState is what is known of the line that a stream is in.
type lineState struct {
	open   bool // entries without newline went before
	chosen bool
	at     time.Time
}

func (r *reader) close() {
	for _, f := range r.files {
		_ = f.Close() // was only read
	}
}

// open opens all files of the log as they are at one moment.
func (r *reader) open() error {
	if r.sink == nil {
		r.ended = true
		return r.openFiles()
	}
	r.sink.mu.Lock() // no rotation meanwhile
	defer r.sink.mu.Unlock()
	if err := r.openFiles(); err != nil {
		return err
	}
	r.publishedLocked()
	return nil
}

func (r *reader) openFiles() error {
	for _, p := range append(rotated(r.path), r.path) {
		f, err := os.Open(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		r.files = append(r.files, logFile{File: f, packed: strings.HasSuffix(p, packed)})
		st, err := f.Stat()
		if err != nil {
			return err
		}
		r.limit = st.Size()
	}
	return nil
}

// publishedLocked notes how far the sink is.
func (r *reader) publishedLocked() {
	r.turn, r.ended = r.sink.turn, r.sink.file == nil
	r.limit = r.sink.size
}

// mtimeSlack is how much younger than its file an entry may be: files take their
// time from a clock that the kernel sets forward every few milliseconds.
const mtimeSlack = time.Second

func (r *reader) run(ctx context.Context) error {
	first, at, err := r.tail(ctx)
	if err != nil || len(r.files) == 0 {
		return err
	}
	for i := first; i < len(r.files); i++ {
		last := i == len(r.files)-1
		end := r.limit
		if !last {
			st, err := r.files[i].Stat()
			if err != nil {
				return err
			}
			if end = st.Size(); st.ModTime().Add(mtimeSlack).Before(r.q.Since) {
				continue // nothing in it is young enough
			}
		}
		at, err = r.scanFile(ctx, r.files[i], at, end)
		switch {
		case errors.Is(err, errPast):
			return nil
		case err != nil:
			return err
		case last && r.q.Follow:
			return r.follow(ctx, at)
		}
		at = 0
	}
	return nil
}

// errPast ends a reading when a line is younger than asked for.
var errPast = errors.New("past the end")

// scanFile is scan for any file.
func (r *reader) scanFile(ctx context.Context, f logFile, at, end int64) (int64, error) {
	if !f.packed {
		return r.scan(ctx, f.File, at, end)
	}
	z, err := unpack(f)
	if err == nil {
		_, err = r.entries(ctx, z, 0)
	}
	if damaged(err) {
		err = nil
	}
	return 0, err
}

// scan reads the entries of a file between two offsets and returns where the
// first incomplete one begins.
func (r *reader) scan(ctx context.Context, f *os.File, at, end int64) (int64, error) {
	return r.entries(ctx, io.NewSectionReader(f, at, end-at), at)
}

func (r *reader) entries(ctx context.Context, from io.Reader, at int64) (int64, error) {
	lr := newLineReader(from)
	for {
		line, n, err := lr.next()
		if errors.Is(err, io.EOF) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
		at += n
		if e, ok := r.dec.decode(line); ok {
			if err := ctx.Err(); err != nil {
				return at, err
			}
			if err := r.emit(&e); err != nil {
				return at, err
			}
		}
	}
}

// emit hands an entry on where it is asked for.
func (r *reader) emit(e *entry) error {
	if !wanted(r.q, e.stream) || len(e.text) == 0 {
		return nil
	}
	l := &r.lines[e.stream]
	if !l.open {
		l.at = e.at
		l.chosen = r.q.Since.IsZero() || !e.at.Before(r.q.Since)
		if !r.q.Until.IsZero() && e.at.After(r.q.Until) {
			return errPast
		}
	}
	l.open = !e.complete()
	if !l.chosen {
		return nil
	}
	return r.fn(moss.LogLine{Stream: e.stream, Time: l.at, Text: e.text, Partial: l.open, Attrs: e.attrs})
}

func wanted(q moss.LogQuery, k moss.StreamKind) bool {
	return k == moss.Stdout && q.Stdout || k == moss.Stderr && q.Stderr
}
