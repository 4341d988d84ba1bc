package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) attachContainer(w *response, r *request) error {
	keys, err := parseDetachKeys(r.str("detachKeys"))
	if err != nil {
		return err
	}
	c, err := s.o.Views.Get(r.containerRef())
	if err != nil {
		return err
	}
	stdin := r.flag("stdin") && c.Config.OpenStdin
	stream := r.flag("stream")
	ctx, cancel := s.stream(hijackContext(r))
	defer cancel()
	h := s.newHijack(w, r, c.Config.TTY, cancel)
	defer h.done()
	a := h.streams(c.Config.TTY, stdin && stream, r.flag("stdout"), r.flag("stderr"))
	if c.Config.TTY && stdin {
		a.DetachKeys = keys
	}
	err = s.o.Signals.Attach(ctx, string(c.ID), a, r.flag("logs"), stream, h.attached)
	h.tell(s.why(err), c.Config.TTY, a.Stderr)
	return h.result(err)
}

// tell says why the stream ends before its time. docker run says nothing of such
// an error when the container has ended, so that output which is lacking is told
// in stderr (nil for none) too.
func (h *hijack) tell(err error, tty bool, stderr io.Writer) {
	if err == nil || left(err) || !h.begun() {
		return
	}
	_ = h.conn.SetWriteDeadline(time.Now().Add(lingerTime)) // it may be one that does not read
	if !tty && stderr != nil && !errors.Is(err, errClosing) {
		_, _ = fmt.Fprintf(stderr, "%s\n", err)
	}
	sayEnd(h, tty, err)
}

// newHijack prepares to take the connection over; s.streams counts its handler.
func (s *Server) newHijack(w *response, r *request, tty bool, gone context.CancelFunc) *hijack {
	h := &hijack{s: s, w: w, r: r, media: rawStream, gone: gone}
	if !tty && !r.version.before(v1(42)) {
		h.media = multiplex
	}
	s.streams.Add(1)
	return h
}

func (h *hijack) done() {
	h.end()
	h.s.streams.Done()
}

// streams are the ends that the service gets.
func (h *hijack) streams(tty, stdin, stdout, stderr bool) moss.AttachIO {
	var a moss.AttachIO
	if stdin {
		a.Stdin = h
	}
	m := &mux{w: h}
	writer := func(kind moss.StreamKind) io.Writer {
		if tty {
			return h
		}
		return m.writer(kind)
	}
	if stdout {
		a.Stdout = writer(moss.Stdout)
	}
	if stderr {
		a.Stderr = writer(moss.Stderr)
	}
	return a
}

// attached sends the header, which tells the client that it is attached.
func (h *hijack) attached() {
	if h.begin() != nil {
		h.gone()
	}
}

// result is what the handler returns for the service's error: before the
// connection was taken it is a proper answer, after that the stream is all there is.
func (h *hijack) result(err error) error {
	if err == nil {
		return h.begin() // an attachment to nothing still answers
	}
	if left(err) && h.begun() {
		return nil
	}
	return err
}
