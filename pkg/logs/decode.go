package logs

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/moss-containers/moss/pkg/moss"
)

// jsonDecoder turns lines of the file into entries. Texts come out of one large
// buffer that is never written twice, so that they may be kept.
type jsonDecoder struct {
	arena  arena
	second string // the time last read, up to the seconds
	base   time.Time
	raw    []byte // the attributes last read, `"attrs":{…},`
	attrs  map[string]string
}

// decode reads one line, without its newline; false for one that is no entry.
func (d *jsonDecoder) decode(line []byte) (entry, bool) {
	if e, ok := d.fast(line); ok {
		return e, true
	}
	e, raw, ok := slow(line)
	if ok && len(raw) > 0 { // the next line's are the same
		d.raw = slices.Concat([]byte(`"attrs":`), raw, []byte(","))
		d.attrs = e.attrs
	}
	return e, ok
}

// fast reads what appendChunk and docker write.
func (d *jsonDecoder) fast(line []byte) (entry, bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return entry{}, false
	}
	text, rest, ok := unquote(d.arena.room(len(rest)), rest)
	if !ok {
		return entry{}, false
	}
	e := entry{text: slices.Clip(text)}
	switch {
	case bytes.HasPrefix(rest, []byte(`,"stream":"stdout",`)):
		e.stream = moss.Stdout
	case bytes.HasPrefix(rest, []byte(`,"stream":"stderr",`)):
		e.stream = moss.Stderr
	default:
		return entry{}, false
	}
	rest = rest[len(`,"stream":"stdout",`):]
	if len(d.raw) > 0 && bytes.HasPrefix(rest, d.raw) {
		rest, e.attrs = rest[len(d.raw):], d.attrs
	}
	rest, ok = bytes.CutPrefix(rest, []byte(`"time":"`))
	if !ok {
		return entry{}, false
	}
	stamp, ok := bytes.CutSuffix(rest, []byte(`"}`))
	if !ok {
		return entry{}, false
	}
	if e.at, ok = d.stamp(stamp); !ok {
		return entry{}, false
	}
	d.arena.took(len(text))
	return e, true
}

// stamp reads a time; those of one second differ in the fraction alone.
func (d *jsonDecoder) stamp(p []byte) (time.Time, bool) {
	const seconds = len("2006-01-02T15:04:05")
	if len(p) > seconds+1 && len(p) <= seconds+11 && p[seconds] == '.' && p[len(p)-1] == 'Z' && string(p[:seconds]) == d.second {
		nanos, scale := 0, int(time.Second)
		for _, c := range p[seconds+1 : len(p)-1] {
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			scale /= 10
			nanos += int(c-'0') * scale
		}
		return d.base.Add(time.Duration(nanos)), true
	}
	t, err := time.Parse(time.RFC3339Nano, string(p))
	if err != nil {
		return time.Time{}, false
	}
	t = t.UTC()
	if p[len(p)-1] == 'Z' {
		d.second, d.base = string(p[:seconds]), t.Truncate(time.Second)
	}
	return t, true
}

// unquote appends the JSON string in p up to its closing quote to b, which has
// room for it, and returns what follows the quote. Strings that only
// encoding/json can judge are left to it.
func unquote(b, p []byte) (text, rest []byte, ok bool) {
	for i := 0; i < len(p); {
		start := i
		for i < len(p) && p[i] != '"' && p[i] != '\\' && p[i] >= 0x20 {
			i++
		}
		b = append(b, p[start:i]...)
		switch {
		case i == len(p) || p[i] < 0x20:
			return nil, nil, false
		case p[i] == '"':
			return b, p[i+1:], true
		}
		n := 0
		if b, n = unescape(b, p[i:]); n == 0 {
			return nil, nil, false
		}
		i += n
	}
	return nil, nil, false
}

// unescape appends the character that the escape at the beginning of p stands
// for, and returns the escape's length; 0 for a wrong one.
func unescape(b, p []byte) ([]byte, int) {
	if len(p) < 2 {
		return b, 0
	}
	switch c := p[1]; c {
	case '"', '\\', '/':
		return append(b, c), 2
	case 'n':
		return append(b, '\n'), 2
	case 'r':
		return append(b, '\r'), 2
	case 't':
		return append(b, '\t'), 2
	case 'b':
		return append(b, '\b'), 2
	case 'f':
		return append(b, '\f'), 2
	case 'u':
		return unescapeHex(b, p)
	default:
		return b, 0
	}
}

func unescapeHex(b, p []byte) ([]byte, int) {
	r := hex4(p)
	switch {
	case r < 0:
		return b, 0
	case r >= 0xDC80 && r <= 0xDCFF:
		return append(b, byte(r)), 6 // a piece of a character
	case utf16.IsSurrogate(r):
		if r2 := hex4(p[6:]); r2 >= 0 {
			if full := utf16.DecodeRune(r, r2); full != utf8.RuneError {
				return utf8.AppendRune(b, full), 12
			}
		}
		return utf8.AppendRune(b, utf8.RuneError), 6
	default:
		return utf8.AppendRune(b, r), 6
	}
}

// hex4 reads \uXXXX; -1 where there is none.
func hex4(p []byte) rune {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range p[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// slow reads entries of another shape. It returns the attributes as they are in the line, too.
func slow(line []byte) (entry, json.RawMessage, bool) {
	var j struct {
		Log    *string         `json:"log"`
		Stream string          `json:"stream"`
		Time   time.Time       `json:"time"`
		Attrs  json.RawMessage `json:"attrs"`
	}
	if json.Unmarshal(line, &j) != nil || j.Log == nil || j.Time.IsZero() {
		return entry{}, nil, false
	}
	e := entry{text: []byte(*j.Log), at: j.Time.UTC()}
	if len(j.Attrs) > 0 && json.Unmarshal(j.Attrs, &e.attrs) != nil {
		return entry{}, nil, false
	}
	switch j.Stream {
	case "stdout":
		e.stream = moss.Stdout
	case "stderr":
		e.stream = moss.Stderr
	default:
		return entry{}, nil, false
	}
	return e, j.Attrs, true
}
