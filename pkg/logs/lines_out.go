package logs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// message is a line as drivers that send take it: without its newline. A line
// longer than docker's 16 KiB is several.
type message struct {
	kind moss.StreamKind
	at   time.Time
	text []byte  // good until send returns
	part partial // zero for a whole line
	sent bool    // the server has said so
}

// partial says which piece of a line a message is.
type partial struct {
	id      string
	ordinal int // from 1
	last    bool
}

// sender takes messages, in order.
type sender interface {
	send(ms []message) error
	Close() error
}

// lineSink makes messages of chunks. The beginning of a line that has no end yet
// waits in a file, so that it outlives the daemon.
type lineSink struct {
	to    sender
	state *os.File
	begun [3]begun // by stream
	saved bool     // state is not empty
	batch []message
	done  bool
}

// begun is a line that has no end yet.
type begun struct {
	text []byte
	at   time.Time
	part partial
}

// newLineSink continues the lines that dir has the beginnings of.
func newLineSink(to sender, dir string) (moss.LogSink, error) {
	f, err := os.OpenFile(filepath.Join(dir, "unfinished-lines"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(err, to.Close())
	}
	s := &lineSink{to: to, state: f}
	s.load()
	return &locked{sink: s}, nil
}

func (s *lineSink) Write(kind moss.StreamKind, at time.Time, p []byte) error {
	if s.done {
		return errClosed
	}
	b := &s.begun[kind]
	s.batch = s.batch[:0]
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n')
		end := n >= 0
		if !end {
			n = len(p)
		}
		rest := p[n:]
		if end {
			rest = rest[1:]
		}
		s.extend(b, kind, at, p[:n], end)
		p = rest
	}
	err := error(nil)
	if len(s.batch) > 0 {
		err = s.to.send(s.batch)
	}
	return errors.Join(err, s.save())
}

// extend adds to a line, and puts what is complete of it into the batch.
func (s *lineSink) extend(b *begun, kind moss.StreamKind, at time.Time, p []byte, end bool) {
	if len(b.text) == 0 && b.part.id == "" {
		b.at = at
	}
	for len(b.text)+len(p) > maxText {
		if b.part.id == "" {
			b.part.id = moss.NewHexID()
		}
		b.part.ordinal++
		n := maxText - len(b.text)
		s.batch = append(s.batch, message{kind: kind, at: b.at, text: join(b.text, p[:n]), part: b.part})
		b.text, p = nil, p[n:]
	}
	if !end {
		b.text = append(b.text, p...)
		return
	}
	if b.part.id != "" {
		b.part.ordinal++
		b.part.last = true
	}
	s.batch = append(s.batch, message{kind: kind, at: b.at, text: join(b.text, p), part: b.part})
	*b = begun{}
}

// join avoids a copy where there is nothing to join.
func join(a, b []byte) []byte {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// Close sends what has no end as pieces that nothing follows.
func (s *lineSink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.batch = s.batch[:0]
	for kind := range s.begun {
		if b := &s.begun[kind]; len(b.text) > 0 {
			if b.part.id == "" {
				b.part.id = moss.NewHexID()
			}
			b.part.ordinal++
			s.batch = append(s.batch, message{kind: moss.StreamKind(kind), at: b.at, text: b.text, part: b.part})
			*b = begun{}
		}
	}
	err := error(nil)
	if len(s.batch) > 0 {
		err = s.to.send(s.batch)
	}
	return errors.Join(err, s.save(), s.state.Close(), s.to.Close())
}

// save writes the beginnings down; where there are none, mostly nothing is to do.
func (s *lineSink) save() error {
	var b []byte
	for kind, g := range s.begun {
		if len(g.text) == 0 && g.part.id == "" {
			continue
		}
		b = append(b, byte(kind))
		b = binary.BigEndian.AppendUint64(b, uint64(g.at.UnixNano()))
		b = binary.BigEndian.AppendUint32(b, uint32(g.part.ordinal))
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(g.part.id))), g.part.id...)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(g.text))), g.text...)
	}
	if len(b) == 0 && !s.saved {
		return nil
	}
	s.saved = len(b) > 0
	// The length goes first and says how much is good.
	b = append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
	_, err := s.state.WriteAt(b, 0)
	return err
}

// load reads what save wrote; what is damaged was not written to its end.
func (s *lineSink) load() {
	all, err := io.ReadAll(io.LimitReader(s.state, 1<<20))
	if err != nil || len(all) < 4 {
		return
	}
	s.saved = true
	b := all[4:]
	if n := binary.BigEndian.Uint32(all); uint64(n) <= uint64(len(b)) {
		b = b[:n]
	}
	field := func() (v []byte) {
		if len(b) < 4 {
			b = nil
			return nil
		}
		n := binary.BigEndian.Uint32(b)
		if b = b[4:]; uint64(n) > uint64(len(b)) {
			b = nil
			return nil
		}
		v, b = b[:n], b[n:]
		return v
	}
	for len(b) > 13 && int(b[0]) < len(s.begun) {
		g := begun{at: time.Unix(0, int64(binary.BigEndian.Uint64(b[1:])))}
		g.part.ordinal = int(binary.BigEndian.Uint32(b[9:]))
		kind := b[0]
		b = b[13:]
		g.part.id = string(field())
		g.text = bytes.Clone(field())
		s.begun[kind] = g
	}
}
