package api

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// frameHeader is what goes before each piece of a multiplexed stream: the
// stream's number, three zeroes, and the length in four bytes, high byte first.
const frameHeader = 8

// systemError is the stream of what went wrong with the others: docker's clients
// end with the error that comes there.
const systemError moss.StreamKind = 3

// sayEnd tells in a stream why it ends before its time: as docker's clients expect
// it, who end with an error then, or a line on a terminal.
func sayEnd(w io.Writer, tty bool, err error) {
	if tty {
		_, _ = fmt.Fprintf(w, "\r\n%s\r\n", err) // the client may be gone, here and below
		return
	}
	_, _ = (&mux{w: w}).writer(systemError).Write([]byte(err.Error()))
}

// buffersWriter writes several buffers as one.
type buffersWriter interface {
	WriteBuffers(b *net.Buffers) (int64, error)
}

// mux writes stdout and stderr into one stream, a frame for each write. Its
// writers may be used at once.
type mux struct {
	mu sync.Mutex
	w  io.Writer
}

// writer returns the writer of one of the streams.
func (m *mux) writer(kind moss.StreamKind) io.Writer { return &muxWriter{m, kind} }

type muxWriter struct {
	m    *mux
	kind moss.StreamKind
}

func (w *muxWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var head [frameHeader]byte
	head[0] = byte(w.kind)
	binary.BigEndian.PutUint32(head[4:], uint32(len(p)))
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if bw, ok := w.m.w.(buffersWriter); ok {
		n, err := bw.WriteBuffers(&net.Buffers{head[:], p})
		return max(int(n)-frameHeader, 0), err
	}
	if _, err := w.m.w.Write(head[:]); err != nil {
		return 0, err
	}
	return w.m.w.Write(p)
}
