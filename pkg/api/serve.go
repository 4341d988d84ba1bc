package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Serve answers requests from l until ctx ends. Then it takes no new ones, ends
// the streams (logs, events, waits, attached clients), gives the others grace to
// finish, tells them that they have to ask again, and closes what is left. It
// returns nil after an orderly end.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    mostHeader,
		IdleTimeout:       3 * time.Minute,
		ConnContext:       s.withPeer,
		ConnState:         s.rest.connected,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.serving(hs, true)
	defer s.serving(hs, false)
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
	told := make(chan struct{})
	late := time.AfterFunc(grace-grace/lastWords, func() { defer close(told); s.hurry(grace / lastWords) })
	err := hs.Shutdown(end)
	if !late.Stop() {
		<-told
		if err != nil {
			err = hs.Shutdown(end) // it looks every half a second only, and those are gone by now
		}
	}
	if err != nil {
		err = errors.Join(err, hs.Close())
	}
	s.endStreams(end)
	if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return moss.Wrap(err, "end the API at", l.Addr().String())
}

// lastWords is which part of the grace is for telling those whose requests do not end.
const lastWords = 4

// mostHeader is what a request may have before its body. Docker has Go's one
// megabyte; a client that sends the credentials of a dozen registries takes half of this.
const mostHeader = 64 << 10

func (s *Server) serving(hs *http.Server, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is {
		s.servers = append(s.servers, hs)
	} else {
		s.servers = slices.DeleteFunc(s.servers, func(other *http.Server) bool { return other == hs })
	}
}

// DropIdle ends the connections of clients that ask nothing at the moment. They connect again when they do.
func (s *Server) DropIdle() {
	s.mu.Lock()
	all := slices.Clone(s.servers)
	s.mu.Unlock()
	for _, hs := range all {
		hs.SetKeepAlivesEnabled(false)
		hs.SetKeepAlivesEnabled(true)
	}
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
	// uid is who that is on the machine: in a user namespace, the kernel shows
	// all who have no number there alike. Nil where nobody can tell.
	uid func() (uint32, error)
}

// withPeer asks the kernel who connected; for other sockets than unix there is
// nobody to tell.
func (s *Server) withPeer(ctx context.Context, c net.Conn) context.Context {
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
	if s.o.PeerUID != nil {
		p.uid = sync.OnceValues(func() (uint32, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), peerTimeout)
			defer cancel()
			return s.o.PeerUID(ctx, uc)
		})
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// peerTimeout is how long it may take to tell who a stranger is.
const peerTimeout = 5 * time.Second

// allowed says whether the connection's peer may use the API: the owner and the
// machine's root, who can do all that the owner can anyway.
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
	uid, told := p.cred.Uid, error(nil)
	if p.uid != nil {
		uid, told = p.uid()
	}
	switch {
	case told != nil:
		s.log.Warn("who is at the socket is refused: it cannot be told whether that is root", "error", told)
	case p.uid != nil && uid == 0:
		return nil
	case s.stranger(uid):
		s.log.Warn("another user is refused at the socket; this is told once", "uid", uid, "pid", p.cred.Pid)
	}
	return moss.Errorf(moss.Forbidden, "this engine belongs to another user: run the client as the user whose socket it is")
}

// mostStrangers is how many users are told of in the log: nobody is to fill it with theirs.
const mostStrangers = 64

// stranger says whether the log is to tell of a user who was refused: the first time.
func (s *Server) stranger(uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.strangers[uid]; known || len(s.strangers) >= mostStrangers {
		return false
	}
	s.strangers[uid] = struct{}{}
	return true
}
