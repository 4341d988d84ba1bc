package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Serve answers requests from l until ctx ends. Then it takes no new ones, ends
// the streams (logs, events, waits, attached clients), gives the others grace to
// finish, and closes what is left. It returns nil after an orderly end.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       3 * time.Minute,
		ConnContext:       withPeer,
		ConnState:         s.rest.connected,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(l) }()
	select {
	case err := <-failed:
		s.close()
		return moss.Wrap(err, "serve the API at", l.Addr().String())
	case <-ctx.Done():
	}
	s.close()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := hs.Shutdown(end)
	if err != nil {
		err = errors.Join(err, hs.Close())
	}
	s.endStreams(end)
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return moss.Wrap(err, "end the API at", l.Addr().String())
}

// endStreams waits for the handlers of hijacked connections until ctx ends,
// then closes their connections.
func (s *Server) endStreams(ctx context.Context) {
	done := make(chan struct{})
	go func() { s.streams.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.hijacked {
		_ = c.Close() // the other side is told by that alone
	}
}

func (s *Server) track(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hijacked[c] = struct{}{}
}

func (s *Server) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hijacked, c)
}

// peerKey is the context's key for the peer of a connection.
type peerKey struct{}

// peer is who is at the other end of a unix socket.
type peer struct {
	cred *unix.Ucred
	err  error
}

// withPeer asks the kernel who connected; for other sockets than unix there is
// nobody to tell.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	var p peer
	raw, err := uc.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			p.cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		})
	}
	p.err = errors.Join(p.err, err)
	return context.WithValue(ctx, peerKey{}, p)
}

// allowed says whether the connection's peer may use the API. A user that the
// user namespace does not map, the host's root among them, appears as the
// overflow id like every stranger, so it is refused as one.
func (s *Server) allowed(ctx context.Context) error {
	p, ok := ctx.Value(peerKey{}).(peer)
	switch {
	case !ok:
		return nil
	case p.err != nil:
		return moss.Errorf(moss.Forbidden, "cannot tell who is at the socket: %w", p.err)
	case slices.Contains(s.o.Peers, p.cred.Uid):
		return nil
	}
	return moss.Errorf(moss.Forbidden, "this engine belongs to another user: run the client as the user whose socket it is")
}
