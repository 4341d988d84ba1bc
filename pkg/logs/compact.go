package logs

import (
	"bytes"
	"slices"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// compact is the format of the driver local and of caches. A line is an entry:
//
//	o0000018bcfe56800 text
//
// The letter is o for stdout and e for stderr, in upper case when the text does
// not end its line; the 16 hexadecimal digits are the time in nanoseconds since
// 1970; the text is as it was printed.
type compact struct{}

const compactHead = 1 + 16 + 1

func (compact) append(b []byte, kind moss.StreamKind, at time.Time, p []byte) []byte {
	var head [compactHead]byte
	for i, v := 16, uint64(at.UnixNano()); i > 0; i, v = i-1, v>>4 {
		head[i] = hexDigits[v&0xF]
	}
	whole, piece := byte('o'), byte('O')
	if kind == moss.Stderr {
		whole, piece = 'e', 'E'
	}
	head[0], head[compactHead-1] = whole, ' '
	// One growth, not many: a line of 1 byte takes 19.
	b = slices.Grow(b, len(p)+(bytes.Count(p, []byte("\n"))+len(p)/maxText+1)*(compactHead+1))
	for len(p) > 0 {
		n := pieceLen(p)
		b = append(b, head[:]...)
		b = append(b, p[:n]...)
		if p[n-1] != '\n' {
			b[len(b)-n-compactHead] = piece
			b = append(b, '\n')
		}
		p = p[n:]
	}
	return b
}

func (compact) decoder() decoder { return &compactDecoder{} }

type compactDecoder struct{ arena arena }

func (d *compactDecoder) decode(line []byte) (entry, bool) {
	if len(line) < compactHead || line[compactHead-1] != ' ' {
		return entry{}, false
	}
	e := entry{stream: moss.Stdout}
	whole := true
	switch line[0] {
	case 'o':
	case 'O':
		whole = false
	case 'e':
		e.stream = moss.Stderr
	case 'E':
		e.stream, whole = moss.Stderr, false
	default:
		return entry{}, false
	}
	var nanos uint64
	for _, c := range line[1 : compactHead-1] {
		i := bytes.IndexByte([]byte(hexDigits), c)
		if i < 0 {
			return entry{}, false
		}
		nanos = nanos<<4 | uint64(i)
	}
	e.at = time.Unix(0, int64(nanos)).UTC()
	text := append(d.arena.room(len(line)), line[compactHead:]...)
	if whole {
		text = append(text, '\n')
	}
	d.arena.took(len(text))
	e.text = slices.Clip(text)
	return e, true
}
