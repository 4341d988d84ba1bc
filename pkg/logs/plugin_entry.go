package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Entries go to plugins, and come from them, as docker's LogEntry in protobuf,
// each with its length in four bytes before it. Fields: source 1, time_nano 2,
// line 3, partial 4, partial_log_metadata 5 with last 1, id 2, ordinal 3.

// The tags of protobuf: the field's number and how it is written, 2 with a length
// and 0 as a number.
const (
	tagSource  = 1<<3 | 2
	tagTime    = 2 << 3
	tagLine    = 3<<3 | 2
	tagPartial = 4 << 3
	tagMeta    = 5<<3 | 2

	tagLast    = 1 << 3
	tagID      = 2<<3 | 2
	tagOrdinal = 3 << 3
)

// maxPluginEntry bounds an entry that a plugin sends.
const maxPluginEntry = 1 << 20

func appendBytes(b []byte, tag byte, v []byte) []byte {
	b = binary.AppendUvarint(append(b, tag), uint64(len(v)))
	return append(b, v...)
}

func sourceOf(k moss.StreamKind) string {
	if k == moss.Stderr {
		return "stderr"
	}
	return "stdout"
}

// appendEntry adds a message with its length.
func appendEntry(b []byte, m *message) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = appendBytes(b, tagSource, []byte(sourceOf(m.kind)))
	b = binary.AppendUvarint(append(b, tagTime), uint64(m.at.UnixNano()))
	b = appendBytes(b, tagLine, m.text)
	if p := m.part; p.id != "" {
		b = append(b, tagPartial, 1)
		var meta []byte
		if p.last {
			meta = append(meta, tagLast, 1)
		}
		meta = appendBytes(meta, tagID, []byte(p.id))
		meta = binary.AppendUvarint(append(meta, tagOrdinal), uint64(p.ordinal))
		b = appendBytes(b, tagMeta, meta)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

var errEntry = errors.New("a log plugin sends what is no entry")

// fields calls fn for each field of a message of protobuf; v is what a number is,
// text what the others are.
func fields(b []byte, fn func(number int, v uint64, text []byte)) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errEntry
		}
		b = b[n:]
		var v uint64
		var text []byte
		switch tag & 7 {
		case 0:
			if v, n = binary.Uvarint(b); n <= 0 {
				return errEntry
			}
			b = b[n:]
		case 1, 5:
			if n = 8; tag&7 == 5 {
				n = 4
			}
			if len(b) < n {
				return errEntry
			}
			b = b[n:]
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errEntry
			}
			text, b = b[n:n+int(size)], b[n+int(size):]
		default:
			return errEntry
		}
		fn(int(tag>>3), v, text)
	}
	return nil
}

// decodeEntry reads an entry without its length.
func decodeEntry(b []byte) (moss.LogLine, error) {
	var (
		l             moss.LogLine
		partial, last bool
		meta          []byte
	)
	err := fields(b, func(number int, v uint64, text []byte) {
		switch number {
		case 1:
			if string(text) == "stderr" {
				l.Stream = moss.Stderr
			} else {
				l.Stream = moss.Stdout
			}
		case 2:
			l.Time = time.Unix(0, int64(v))
		case 3:
			l.Text = append([]byte(nil), text...)
		case 4:
			partial = v != 0
		case 5:
			meta = text
		}
	})
	if err == nil {
		err = fields(meta, func(number int, v uint64, _ []byte) { last = last || number == 1 && v != 0 })
	}
	if l.Partial = partial && !last; !l.Partial {
		l.Text = append(l.Text, '\n')
	}
	return l, err
}

// readEntries hands on what a plugin sends, as far as it is asked for: a plugin
// need not heed bounds.
func readEntries(ctx context.Context, from io.Reader, q moss.LogQuery, fn func(moss.LogLine) error) error {
	var head [4]byte
	for {
		if _, err := io.ReadFull(from, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > maxPluginEntry {
			return errEntry
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(from, b); err != nil {
			return errors.Join(ctx.Err(), err)
		}
		l, err := decodeEntry(b)
		switch {
		case err != nil:
			return err
		case !q.Until.IsZero() && l.Time.After(q.Until):
			return nil
		case !wanted(q, l.Stream), !q.Since.IsZero() && l.Time.Before(q.Since):
			continue
		}
		if err := fn(l); err != nil {
			return err
		}
	}
}
