package api

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// underWay is net/http's part of a request that is being handled. A handler may
// wait for what outlasts the server, like a container's end. Then somebody else
// answers in its place, and what it says afterwards goes nowhere.
type underWay struct {
	http.ResponseWriter
	cancel context.CancelFunc // of the request's context
	bodied bool               // the handler may be reading what the client sends

	mu       sync.Mutex
	begun    bool          // the answer has begun
	over     bool          // the handler has returned
	answered chan struct{} // of somebody else's answer, nil for none: closed when it is out
}

func (s *Server) begin(w http.ResponseWriter, r *http.Request) (*underWay, *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	u := &underWay{ResponseWriter: w, cancel: cancel, bodied: r.Body != nil && r.Body != http.NoBody}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay[u] = struct{}{}
	return u, r.WithContext(ctx)
}

// finish is called when the handler has returned.
func (s *Server) finish(u *underWay) {
	u.cancel()
	s.mu.Lock()
	delete(s.underWay, u)
	s.mu.Unlock()
	u.mu.Lock()
	u.over = true
	answered := u.answered
	u.mu.Unlock()
	if answered != nil { // net/http may not go on with the connection before
		<-answered
	}
}

// allUnderWay are the requests that are being handled.
func (s *Server) allUnderWay() []*underWay {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*underWay, 0, len(s.underWay))
	for u := range s.underWay {
		all = append(all, u)
	}
	return all
}

// hurry ends what requests wait for, where that can be ended; after a while, the
// others are told that they have to ask again. wait is for both.
func (s *Server) hurry(wait time.Duration) {
	for _, u := range s.allUnderWay() {
		u.cancel()
	}
	late := time.NewTimer(wait / 2)
	defer late.Stop()
	<-late.C
	var telling sync.WaitGroup
	for _, u := range s.allUnderWay() {
		telling.Go(func() { u.answer(wait / 2) })
	}
	telling.Wait()
}

// answer says in the handler's place that the engine ends.
func (u *underWay) answer(within time.Duration) {
	u.mu.Lock()
	if u.begun || u.over || u.answered != nil || u.bodied {
		u.mu.Unlock()
		return
	}
	u.answered = make(chan struct{})
	u.mu.Unlock()
	defer close(u.answered)
	conn, _, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return // a test's has no connection
	}
	defer func() { _ = conn.Close() }() // the client may be gone, here and below
	_ = conn.SetDeadline(time.Now().Add(within))
	_ = WriteUnavailable(conn, errClosing.Error(), fmt.Sprintf("Api-Version: %s\r\n", MaxVersion))
}

// may says whether the handler's answer goes to the client.
func (u *underWay) may() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.begun = u.begun || u.answered == nil
	return u.begun
}

// WriteHeader begins the answer, unless it is there.
func (u *underWay) WriteHeader(status int) {
	if u.may() {
		u.ResponseWriter.WriteHeader(status)
	}
}

func (u *underWay) Write(p []byte) (int, error) {
	if !u.may() {
		return 0, errClosing
	}
	return u.ResponseWriter.Write(p)
}

// FlushError is for http.ResponseController, as is Hijack.
func (u *underWay) FlushError() error {
	if !u.may() {
		return errClosing
	}
	return http.NewResponseController(u.ResponseWriter).Flush()
}

// Hijack takes the connection over.
func (u *underWay) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !u.may() {
		return nil, nil, errClosing
	}
	return http.NewResponseController(u.ResponseWriter).Hijack()
}

// Unwrap is for the rest of it.
func (u *underWay) Unwrap() http.ResponseWriter { return u.ResponseWriter }
