package layer

import (
	"errors"
	"io"
	"sync"
)

const (
	chunkSize   = 256 << 10
	chunksAhead = 4
)

var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

type chunk struct {
	buf *[chunkSize]byte
	n   int
	err error
}

// ahead reads a reader in a goroutine of its own, a few chunks before they are
// asked for, so that one processor decompresses while another makes files.
type ahead struct {
	full chan chunk
	quit chan struct{}
	cur  chunk
	off  int
}

func readAhead(r io.Reader) *ahead {
	a := &ahead{full: make(chan chunk, chunksAhead), quit: make(chan struct{})}
	go func() {
		defer close(a.full)
		for {
			c := chunk{buf: chunks.Get().(*[chunkSize]byte)}
			for c.n < chunkSize && c.err == nil {
				var n int
				n, c.err = r.Read(c.buf[c.n:])
				c.n += n
			}
			select {
			case a.full <- c:
			case <-a.quit:
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	return a
}

func (a *ahead) Read(p []byte) (int, error) {
	for a.off == a.cur.n {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.buf != nil {
			chunks.Put(a.cur.buf)
		}
		a.cur, a.off = <-a.full, 0
		if a.cur.buf == nil {
			return 0, errors.New("read after the end")
		}
	}
	n := copy(p, a.cur.buf[a.off:a.cur.n])
	a.off += n
	return n, nil
}

// stop ends the goroutine and waits for it: the reader is the caller's again.
func (a *ahead) stop() {
	close(a.quit)
	for range a.full { //nolint:revive // until it is closed
	}
}
