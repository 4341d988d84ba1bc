package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// logTime is RFC 3339 with all nine decimals, so that lines stay in columns.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func (s *Server) containerLogs(w *response, r *request) error {
	q, err := logQuery(r)
	if err != nil {
		return err
	}
	c, err := s.o.Views.Get(r.containerRef())
	if err != nil {
		return err
	}
	ctx, cancel := s.stream(r.Context())
	defer cancel()
	media := rawStream
	if !c.Config.TTY && !r.version.before(v1(42)) {
		media = multiplex
	}
	w.Header().Set("Content-Type", media)
	if q.Follow {
		// A log that cannot be read must be refused while there is still a status to do it with.
		probe := q
		probe.Follow, probe.Tail = false, 0
		if err := s.o.Views.Logs(ctx, string(c.ID), probe, func(moss.LogLine) error { return nil }); err != nil {
			return err
		}
		w.flush()
	}
	buf := bufio.NewWriterSize(w, 32<<10)
	lw := newLogWriter(buf, c.Config.TTY, r.flag("timestamps"), r.flag("details"))
	err = s.o.Views.Logs(ctx, string(c.ID), q, func(l moss.LogLine) error {
		if err := lw.line(l); err != nil {
			return err
		}
		if q.Follow {
			err := buf.Flush()
			w.flush()
			return err
		}
		return nil
	})
	switch {
	case err == nil:
		err := buf.Flush()
		w.flush()
		return err
	case ctx.Err() != nil:
		err := s.why(context.Cause(ctx))
		if errors.Is(err, errClosing) {
			sayEnd(buf, c.Config.TTY, err)
			_ = buf.Flush() // the client may be gone
			w.flush()
		}
		return err
	case !w.begun && buf.Buffered() == 0:
		return err
	}
	_, _ = fmt.Fprintf(lw.errors(), "Error grabbing logs: %v\n", err)
	_ = buf.Flush() // the client may be gone
	return err
}

func logQuery(r *request) (moss.LogQuery, error) {
	q := moss.LogQuery{Stdout: r.flag("stdout"), Stderr: r.flag("stderr"), Follow: r.flag("follow"), Tail: -1}
	if !q.Stdout && !q.Stderr {
		return q, moss.Errorf(moss.Invalid, "Bad parameters: you must choose at least one stream")
	}
	var err error
	if q.Since, err = r.moment("since"); err != nil {
		return q, err
	}
	if q.Until, err = r.moment("until"); err != nil {
		return q, err
	}
	if t := r.str("tail"); t != "" && t != "all" {
		if q.Tail, err = r.integer("tail", -1); err != nil {
			return q, err
		}
		q.Tail = max(q.Tail, -1)
	}
	return q, nil
}

// logWriter writes lines of a log the way the client asked for.
type logWriter struct {
	out            map[moss.StreamKind]io.Writer
	times, details bool
	within         map[moss.StreamKind]bool // the last piece was not the end of its line
}

func newLogWriter(w io.Writer, tty, times, details bool) *logWriter {
	lw := &logWriter{times: times, details: details, within: map[moss.StreamKind]bool{}}
	if tty {
		lw.out = map[moss.StreamKind]io.Writer{moss.Stdout: w, moss.Stderr: w}
		return lw
	}
	m := &mux{w: w}
	lw.out = map[moss.StreamKind]io.Writer{moss.Stdout: m.writer(moss.Stdout), moss.Stderr: m.writer(moss.Stderr)}
	return lw
}

func (lw *logWriter) errors() io.Writer { return lw.out[moss.Stderr] }

func (lw *logWriter) line(l moss.LogLine) error {
	w, ok := lw.out[l.Stream]
	if !ok {
		return moss.Errorf(moss.Internal, "a log line of the unknown stream %d", l.Stream)
	}
	text := l.Text
	if !lw.within[l.Stream] && (lw.times || lw.details) {
		var b []byte
		if lw.times {
			b = append(l.Time.UTC().AppendFormat(b, logTime), ' ')
		}
		if lw.details {
			b = append(append(b, attrs(l.Attrs)...), ' ')
		}
		text = append(b, text...)
	}
	lw.within[l.Stream] = l.Partial
	_, err := w.Write(text)
	return err
}

// attrs writes a line's attributes as key=value with commas between them.
func attrs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, escapeAttr(k)+"="+escapeAttr(m[k]))
	}
	return strings.Join(out, ",")
}

var attrEscaper = strings.NewReplacer("%", "%25", ",", "%2C", "=", "%3D", " ", "+")

func escapeAttr(s string) string { return attrEscaper.Replace(s) }
