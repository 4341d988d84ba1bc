package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/moss-containers/moss/pkg/moss"
)

// attachWebSocket is attach for those who can do no more than a web socket, as
// browsers. Output comes as it is, stdout and stderr mixed, in messages cut
// anywhere; what the client sends is the input, and its leaving the input's end.
func (s *Server) attachWebSocket(w *response, r *request) error {
	keys, err := parseDetachKeys(r.str("detachKeys"))
	if err != nil {
		return err
	}
	c, err := s.o.Views.Get(r.containerRef())
	if err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return invalid("GET %s is for web sockets: send Upgrade: websocket, or use POST /containers/{id}/attach", r.URL.Path)
	}
	named := !r.version.before(v1(42)) // before, all streams are meant
	wants := func(stream string) bool { return !named || r.flag(stream) }
	ctx, cancel := s.stream(hijackContext(r))
	defer cancel()
	s.streams.Add(1)
	defer s.streams.Done()
	reach, lost := context.WithCancel(hijackContext(r)) // the library closes what its context ends: nobody could be told why
	defer lost()
	ws := &webSocket{ctx: reach, w: w, r: r, gone: cancel, kind: websocket.MessageBinary}
	if r.version.before(v1(28)) {
		ws.kind = websocket.MessageText
	}
	stream := r.flag("stream")
	var a moss.AttachIO
	if stream && wants("stdin") && c.Config.OpenStdin {
		a.Stdin = ws
		if c.Config.TTY {
			a.DetachKeys = keys
		}
	} else {
		ws.unread = true
	}
	if wants("stdout") {
		a.Stdout = ws
	}
	if wants("stderr") {
		a.Stderr = ws
	}
	err = s.o.Signals.Attach(ctx, string(c.ID), a, r.flag("logs"), stream, ws.attached)
	if err == nil {
		err = ws.begin() // an attachment to nothing still answers
	}
	if !ws.begun() {
		if ws.refused != nil { // whatever the service made of it
			return ws.refused
		}
		return err
	}
	if ctx.Err() != nil && s.closing.Err() == nil {
		lost() // the client has left
	}
	ws.end(s.why(err))
	return nil
}

// webSocket is a connection that becomes a web socket at its first use, so that
// a service that fails before answers with a proper HTTP error.
type webSocket struct {
	ctx    context.Context
	w      *response
	r      *request
	gone   context.CancelFunc // called when the client has left
	kind   websocket.MessageType
	unread bool // nobody wants what the client sends

	once    sync.Once
	conn    *websocket.Conn
	failed  error
	refused error // the handshake was wrong

	message io.Reader  // the one being read; of the one reader
	writing sync.Mutex // a message at a time
}

func (s *webSocket) begin() error {
	s.once.Do(func() { s.conn, s.failed = s.accept() })
	return s.failed
}

func (s *webSocket) begun() bool {
	s.once.Do(func() { s.failed = net.ErrClosed }) // too late to begin
	return s.conn != nil
}

func (s *webSocket) accept() (*websocket.Conn, error) {
	// A browser cannot get at a unix socket; over TCP its certificate would speak for any page it shows.
	_, local := s.r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	refused := &unanswered{response: s.w}
	conn, err := websocket.Accept(refused, s.r.Request, &websocket.AcceptOptions{InsecureSkipVerify: local})
	if err != nil {
		class := moss.Invalid
		if refused.code == http.StatusForbidden {
			class = moss.Forbidden
		}
		s.refused = moss.Errorf(class, "cannot make it a web socket: %w", err)
		return nil, s.refused
	}
	s.w.begun, s.w.status = true, http.StatusSwitchingProtocols
	conn.SetReadLimit(-1) // it is a stream: no message is kept as a whole
	if s.unread {
		go s.drain(conn)
	}
	return conn, nil
}

// unanswered keeps the library's own refusal, in plain text, from the client:
// it gets an answer like all others.
type unanswered struct {
	*response
	code int
}

func (u *unanswered) WriteHeader(status int) {
	u.code = status
	if status == http.StatusSwitchingProtocols {
		u.response.WriteHeader(status)
	}
}

func (u *unanswered) Write(p []byte) (int, error) { return len(p), nil }

// drain notices that the client leaves, where nobody reads.
func (s *webSocket) drain(conn *websocket.Conn) {
	for {
		_, m, err := conn.Reader(s.ctx)
		if err == nil {
			_, err = io.Copy(io.Discard, m)
		}
		if err != nil {
			s.gone()
			return
		}
	}
}

func (s *webSocket) attached() {
	if s.begin() != nil {
		s.gone()
	}
}

// Read reads the client's messages one after the other.
func (s *webSocket) Read(p []byte) (int, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	for {
		if s.message == nil {
			_, m, err := s.conn.Reader(s.ctx)
			if err != nil {
				s.gone()
				return 0, io.EOF
			}
			s.message = m
		}
		n, err := s.message.Read(p)
		if errors.Is(err, io.EOF) {
			s.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Write sends a message.
func (s *webSocket) Write(p []byte) (int, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.conn.Write(s.ctx, s.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// end says farewell, unless the client has left.
func (s *webSocket) end(err error) {
	if s.ctx.Err() != nil {
		_ = s.conn.CloseNow() // nobody is left to tell
		return
	}
	code, reason := websocket.StatusNormalClosure, ""
	switch {
	case errors.Is(err, errClosing):
		code = websocket.StatusGoingAway
	case err != nil:
		code = websocket.StatusInternalError
	}
	if err != nil {
		reason = err.Error()
		reason = reason[:min(len(reason), 120)] // what a control frame has room for
	}
	_ = s.conn.Close(code, reason) // the client may be gone
}
