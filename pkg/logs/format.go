package logs

import (
	"bytes"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxText is the longest text of one entry, docker's limit.
const maxText = 16 << 10

// format is how entries stand in files: one a line, whatever it is.
type format interface {
	// append appends the entries of a chunk of output to b.
	append(b []byte, kind moss.StreamKind, at time.Time, p []byte) []byte
	decoder() decoder
}

// decoder reads entries. The texts may be kept.
type decoder interface {
	// decode reads one line, without its newline; false for one that is no entry.
	decode(line []byte) (entry, bool)
}

// entry is one line of the file.
type entry struct {
	text   []byte
	stream moss.StreamKind
	at     time.Time
	attrs  map[string]string
}

// complete says that the entry ends its line.
func (e *entry) complete() bool {
	return len(e.text) > 0 && e.text[len(e.text)-1] == '\n'
}

// pieceLen is how much of a chunk, which is not empty, the next entry takes.
func pieceLen(p []byte) int {
	if n := bytes.IndexByte(p[:min(len(p), maxText)], '\n') + 1; n > 0 {
		return n
	}
	return min(len(p), maxText)
}

// arena is memory that is never written twice.
type arena struct{ buf []byte }

const arenaSize = 64 << 10

// room returns an empty slice with room for n bytes, which is not taken yet.
func (a *arena) room(n int) []byte {
	if len(a.buf) < n {
		a.buf = make([]byte, max(arenaSize, n))
	}
	return a.buf[:0:n]
}

// took says how much of the room is used.
func (a *arena) took(n int) { a.buf = a.buf[n:] }
