package logs

import (
	"encoding/binary"
	"time"
	"unicode/utf8"

	"github.com/moss-containers/moss/pkg/moss"
)

// jsonFormat is docker's json-file format. It carries the log's attributes on each line.
type jsonFormat struct {
	attrs []byte // `"attrs":{…},` or nothing
}

func (f jsonFormat) append(b []byte, kind moss.StreamKind, at time.Time, p []byte) []byte {
	return appendChunk(b, kind, at, p, f.attrs)
}

func (jsonFormat) decoder() decoder { return &jsonDecoder{} }

// appendChunk appends the entries of a chunk of output to b.
func appendChunk(b []byte, kind moss.StreamKind, at time.Time, p, attrs []byte) []byte {
	tail := appendTail(make([]byte, 0, 128), kind, at, attrs)
	for len(p) > 0 {
		n := pieceLen(p)
		b = append(b, `{"log":"`...)
		b = appendText(b, p[:n])
		b = append(b, tail...)
		p = p[n:]
	}
	return b
}

// appendTail appends what follows an entry's text.
func appendTail(b []byte, kind moss.StreamKind, at time.Time, attrs []byte) []byte {
	b = append(b, `","stream":"`...)
	b = append(b, streamName(kind)...)
	b = append(b, `",`...)
	b = append(b, attrs...)
	b = append(b, `"time":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

func streamName(kind moss.StreamKind) string {
	if kind == moss.Stderr {
		return "stderr"
	}
	return "stdout"
}

const hexDigits = "0123456789abcdef"

// plain tells the bytes that stand for themselves in a JSON string, as
// encoding/json has it with HTML escaping.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = true
	}
	for _, c := range `"\<>&` {
		t[c] = false
	}
	return t
}()

// allPlain says that eight bytes are all plain. It looks at them at once: the
// subtractions borrow into the top bit of a byte that is below 0x20 or, where it
// was xored with a character, zero. A byte beside such a one may be taken for
// one too, which costs a second look only.
func allPlain(v uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	zero := func(x uint64) uint64 { return x - ones }
	bad := v | (v - 0x20*ones) |
		zero(v^'"'*ones) | zero(v^'\\'*ones) | zero(v^'<'*ones) | zero(v^'>'*ones) | zero(v^'&'*ones)
	return bad&tops == 0
}

// appendText appends p escaped as encoding/json does. The pieces of a
// character that is cut at either end of p are kept, see the package's doc.
func appendText(b, p []byte) []byte {
	body := p
	var head, tail []byte
	for len(head) < utf8.UTFMax-1 && len(body) > 0 && body[0]&0xC0 == 0x80 {
		head, body = p[:len(head)+1], body[1:]
	}
	if n := cutRune(body); n > 0 {
		body, tail = body[:len(body)-n], body[len(body)-n:]
	}
	b = appendRaw(b, head)
	start := 0
	for i := 0; i < len(body); {
		if i+8 <= len(body) && allPlain(binary.LittleEndian.Uint64(body[i:])) {
			i += 8
			continue
		}
		c := body[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, body[start:i]...)
			b = appendControl(b, c)
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRune(body[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, body[start:i]...)
			b = append(b, `\ufffd`...)
			start = i + n
		case r == '\u2028' || r == '\u2029':
			b = append(b, body[start:i]...)
			b = append(b, `\u202`...)
			b = append(b, hexDigits[r&0xF])
			start = i + n
		}
		i += n
	}
	b = append(b, body[start:]...)
	return appendRaw(b, tail)
}

func appendControl(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	default:
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
	}
}

// appendRaw appends bytes from 0x80 on, one escape each.
func appendRaw(b, p []byte) []byte {
	for _, c := range p {
		b = append(b, '\\', 'u', 'd', 'c', hexDigits[c>>4], hexDigits[c&0xF])
	}
	return b
}

// cutRune returns how many bytes at the end of p begin a character that does
// not end there.
func cutRune(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		c := p[len(p)-n]
		if c < utf8.RuneSelf {
			return 0
		}
		if utf8.RuneStart(c) {
			if utf8.FullRune(p[len(p)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}
