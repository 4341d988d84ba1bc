package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// The media types of a hijacked connection's and a log's bytes.
const (
	rawStream  = "application/vnd.docker.raw-stream"
	multiplex  = "application/vnd.docker.multiplexed-stream"
	lingerTime = 10 * time.Second
)

// hijack is a connection that a handler takes over from net/http. It is taken
// at the first use, so that a service that fails before answers with a proper
// HTTP error. All methods may be called from several goroutines.
type hijack struct {
	s     *Server
	w     *response
	r     *request
	media string             // what the bytes to the client are
	gone  context.CancelFunc // called when the client has left

	once   sync.Once
	taken  atomic.Bool
	conn   net.Conn
	input  *bufio.Reader // what net/http had read already comes first
	watch  *os.File      // a second descriptor of the connection, for noticing the hang-up
	failed error
}

// begin takes the connection and sends the header.
func (h *hijack) begin() error {
	h.once.Do(func() { h.failed = h.take() })
	return h.failed
}

func (h *hijack) begun() bool { return h.taken.Load() }

func (h *hijack) take() error {
	conn, rw, err := http.NewResponseController(h.w.ResponseWriter).Hijack()
	if err != nil {
		return moss.Errorf(moss.Invalid, "cannot take over the connection: %w", err)
	}
	h.conn, h.input = conn, rw.Reader
	h.w.begun, h.w.status = true, http.StatusSwitchingProtocols
	h.taken.Store(true)
	h.s.track(conn)
	_ = conn.SetDeadline(time.Time{}) // net/http may have left one
	head := "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + h.media + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
	if h.r.Header.Get("Upgrade") == "" {
		head = "HTTP/1.1 200 OK\r\nContent-Type: " + rawStream + "\r\n"
		h.w.status = http.StatusOK
	}
	if _, err := fmt.Fprintf(conn, "%sApi-Version: %s\r\nServer: %s\r\n\r\n", head, MaxVersion, h.w.Header().Get("Server")); err != nil {
		return err
	}
	h.watchHangup()
	return nil
}

// watchHangup calls gone when the client has closed the connection, not when it
// has only ended its input. A unix socket hangs up then. With TLS, input ends by a
// message of TLS, and the end of the connection below is that of all. Plain TCP
// ends the same way for both: a client that left is noticed when its machine
// resets what is written, or a keep-alive probe.
func (h *hijack) watchHangup() {
	conn, ends := h.conn, int16(unix.POLLHUP|unix.POLLERR)
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn, ends = t.NetConn(), ends|unix.POLLRDHUP
	}
	f, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return
	}
	dup, err := f.File()
	if err != nil {
		return // the next write tells
	}
	h.watch = dup
	raw, err := dup.SyscallConn()
	if err != nil {
		return
	}
	go func() {
		err := raw.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: ends}}
			n, err := unix.Poll(fds, 0)
			return err == nil && n > 0 && fds[0].Revents&ends != 0
		})
		if err == nil {
			h.gone()
		}
	}()
}

// Read reads the client's input.
func (h *hijack) Read(p []byte) (int, error) {
	if err := h.begin(); err != nil {
		return 0, err
	}
	return h.input.Read(p)
}

// Write writes raw bytes to the client.
func (h *hijack) Write(p []byte) (int, error) {
	if err := h.begin(); err != nil {
		return 0, err
	}
	return h.conn.Write(p)
}

// WriteBuffers writes the buffers in one go.
func (h *hijack) WriteBuffers(b *net.Buffers) (int64, error) {
	if err := h.begin(); err != nil {
		return 0, err
	}
	return b.WriteTo(h.conn)
}

// end closes the connection after the client has read everything: closing with
// input unread would reset it and could lose the last output.
func (h *hijack) end() {
	h.once.Do(func() { h.failed = net.ErrClosed }) // too late to begin
	if h.conn == nil {
		return
	}
	if h.watch != nil {
		_ = h.watch.Close()
	}
	if cw, ok := h.conn.(interface{ CloseWrite() error }); ok && cw.CloseWrite() == nil {
		_ = h.conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, h.conn)
	}
	_ = h.conn.Close()
	h.s.untrack(h.conn)
}

// left says whether an error is only the client's or the server's going.
func left(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// hijackContext is the request's context without its end: net/http ends that
// when the client's input ends, and an attached client may listen on.
// watchHangup takes its place.
func hijackContext(r *request) context.Context { return context.WithoutCancel(r.Context()) }
