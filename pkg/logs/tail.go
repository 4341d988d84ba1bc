package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
)

// tail finds where the last lines asked for begin: which file, and where in it.
func (r *reader) tail(ctx context.Context) (file int, at int64, err error) {
	if r.q.Tail < 0 {
		return 0, 0, nil
	}
	t := tailFinder{r: r, left: r.q.Tail}
	for i, f := range slices.Backward(r.files) {
		if f, err = f.plain(); err != nil {
			return 0, 0, err
		}
		r.files[i] = f
		end := r.limit
		if i < len(r.files)-1 {
			st, err := f.Stat()
			if err != nil {
				return 0, 0, err
			}
			end = st.Size()
		}
		at, found, err := t.search(ctx, f.File, end)
		if err != nil || found {
			return i, at, err
		}
	}
	return 0, 0, nil
}

// tailFinder counts lines backwards.
type tailFinder struct {
	r    *reader
	left int
	seen [3]bool // by stream: a later part of the line at hand was seen
}

const tailBlock = 64 << 10

// search goes through a file from its end. It returns the offset behind the
// entry that is one too many, and whether there is one.
func (t *tailFinder) search(ctx context.Context, f *os.File, end int64) (int64, bool, error) {
	var tail []byte // the beginning of what was read, up to its first newline
	base := end     // the offset of tail
	torn := true    // what follows the last newline is no entry
	for base > 0 {
		if err := ctx.Err(); err != nil {
			return 0, false, err
		}
		n := min(base, tailBlock)
		buf := make([]byte, int(n), int(n)+len(tail))
		if _, err := f.ReadAt(buf, base-n); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		buf = append(buf, tail...)
		base -= n
		for {
			i := bytes.LastIndexByte(buf, '\n')
			if i < 0 {
				break
			}
			line := buf[i+1:]
			buf = buf[:i]
			if torn {
				torn = false
				continue
			}
			if t.passed(line) {
				return base + int64(i) + 1 + int64(len(line)) + 1, true, nil
			}
		}
		tail = buf
		if len(tail) > maxEntry {
			tail = nil // no entry is that long; what is left of it does not decode
		}
	}
	if !torn && t.passed(tail) {
		return int64(len(tail)) + 1, true, nil
	}
	return 0, false, nil
}

// passed counts a line of the file and says whether it is one too many.
func (t *tailFinder) passed(line []byte) bool {
	e, ok := t.r.dec.decode(line)
	if !ok || !wanted(t.r.q, e.stream) || len(e.text) == 0 {
		return false
	}
	if e.complete() || !t.seen[e.stream] {
		if t.left == 0 {
			return true
		}
		t.left--
	}
	t.seen[e.stream] = true
	return false
}
