package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"

	"github.com/moss-containers/moss/pkg/logs/journal"
)

// newLog logs to w, which systemd takes to the journal with a time stamp, or
// to the journal itself with a field for each attribute. Level can change.
func newLog(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	noTime := func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})), nil
	case "journal":
		j, err := journal.Dial(journal.Socket)
		if err != nil {
			return nil, fmt.Errorf("cannot log to the journal: %w", err)
		}
		return slog.New(&journalHandler{to: j, level: level}), nil
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: noTime})), nil
}

type sender interface{ Send(entries []byte) error }

// journalHandler writes entries with fields, systemd.journal-fields(7).
type journalHandler struct {
	to     sender
	level  slog.Leveler
	fields []byte // of With
	prefix string // of WithGroup
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	b := journal.AppendField(nil, "MESSAGE", []byte(r.Message))
	b = journal.AppendField(b, "PRIORITY", strconv.AppendInt(nil, int64(priority(r.Level)), 10))
	b = journal.AppendField(b, "SYSLOG_IDENTIFIER", []byte("mossd"))
	b = append(b, h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		b = appendAttr(b, h.prefix, a)
		return true
	})
	return h.to.Send(journal.AppendEnd(b))
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.fields = slices.Clone(h.fields)
	for _, a := range attrs {
		n.fields = appendAttr(n.fields, h.prefix, a)
	}
	return &n
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	n := *h
	n.prefix += name + "_"
	return &n
}

// appendAttr appends a field that is named after an attribute: MOSS_CONTAINER.
func appendAttr(b []byte, prefix string, a slog.Attr) []byte {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, in := range v.Group() {
			b = appendAttr(b, prefix+a.Key+"_", in)
		}
		return b
	}
	return journal.AppendField(b, journal.FieldName("moss_"+prefix+a.Key), []byte(v.String()))
}

// priority is syslog's, syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
