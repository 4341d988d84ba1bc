package logs

import (
	"bytes"
	"io"
)

// maxEntry is the longest line of the file that is taken for an entry. A text
// of 16 KiB can take six times as much, attributes come on top.
const maxEntry = 1 << 20

// lineReader splits a file into lines. Lines beyond maxEntry come out cut into
// pieces, which the decoder refuses.
type lineReader struct {
	r          io.Reader
	buf        []byte
	start, end int
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: r, buf: make([]byte, 128<<10)}
}

// next returns the next line without its newline, good until the next call,
// and its length in the file; io.EOF at the end and before a last line that has
// no newline.
func (l *lineReader) next() ([]byte, int64, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(l.buf[l.start+seen:l.end], '\n'); i >= 0 {
			line := l.buf[l.start : l.start+seen+i]
			l.start += seen + i + 1
			return line, int64(len(line)) + 1, nil
		}
		if seen = l.end - l.start; seen >= maxEntry {
			piece := l.buf[l.start:l.end]
			l.start = l.end
			return piece, int64(len(piece)), nil
		}
		if err := l.fill(); err != nil {
			return nil, 0, err
		}
	}
}

// fill reads more, making room first.
func (l *lineReader) fill() error {
	if l.start > 0 {
		l.end = copy(l.buf, l.buf[l.start:l.end])
		l.start = 0
	}
	if l.end == len(l.buf) {
		l.buf = append(l.buf, make([]byte, len(l.buf))...)
	}
	n, err := l.r.Read(l.buf[l.end:])
	l.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}
