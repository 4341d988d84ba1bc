package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/moss-containers/moss/pkg/moss"
)

type tracedKey struct{}

// tracedSystem tells whether the context that Trace gave a request comes through.
type tracedSystem struct {
	fakeSystem
	fail func(traced bool) error
}

func (s tracedSystem) Info(ctx context.Context) (moss.Info, error) {
	return moss.Info{}, s.fail(ctx.Value(tracedKey{}) != nil)
}

// Each request is told with its route, and how it ended.
func TestTrace(t *testing.T) {
	s, w := newFake()
	var told []string
	s.o.Trace = func(r *http.Request, route string) (context.Context, func(int, error)) {
		return context.WithValue(r.Context(), tracedKey{}, true), func(status int, err error) {
			told = append(told, fmt.Sprintf("%s %s %d %v", r.Method, route, status, err))
		}
	}
	failure, traced := error(nil), false
	s.o.System = tracedSystem{fakeSystem{w}, func(is bool) error {
		if traced = is; failure == nil {
			panic("boom")
		}
		return failure
	}}
	for _, c := range []struct {
		method, path string
		failure      error
		want         string
	}{
		{get, "/v1.56/_ping", nil, "GET /_ping 200 <nil>"},
		{head, "/_ping", nil, "HEAD /_ping 200 <nil>"},
		{"OPTIONS", "/x", nil, "OPTIONS  200 <nil>"},
		{get, "/nothing", nil, "GET  404 page not found"},
		{get, "/v1.56/containers/nobody/json", nil, "GET /containers/{name}/json 404 No such container: nobody"},
		{get, "/v9.9/version", nil, "GET /version 400 client version 9.9 is too new. Maximum supported API version is 1.56"},
		{get, "/info", moss.Errorf(moss.Internal, "no disk"), "GET /info 500 no disk"},
		{get, "/info", nil, "GET /info 500 a fault in moss: boom"},
	} {
		failure, told = c.failure, nil
		do(t, s, c.method, c.path, "", "")
		if !slices.Equal(told, []string{c.want}) {
			t.Errorf("got %q, want %q", told, c.want)
		}
	}
	if !traced {
		t.Error("the service has another context than the one that goes with the request")
	}
}

// A connection that was taken over is told when it ends.
func TestTraceHijacked(t *testing.T) {
	told := make(chan string, 8)
	socket, _ := serveWith(t, func(s *Server) {
		s.o.Trace = func(r *http.Request, route string) (context.Context, func(int, error)) {
			return r.Context(), func(status int, err error) { told <- fmt.Sprintf("%s %s %d %v", r.Method, route, status, err) }
		}
	})
	c := dial(t, socket)
	made, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Image: "busybox"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.ContainerAttach(t.Context(), made.ID, client.ContainerAttachOptions{Stream: true, Stdout: true})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	limit := time.After(time.Minute)
	for {
		select {
		case line := <-told:
			if strings.HasPrefix(line, "POST /containers/{id}/attach 101 ") {
				return
			}
		case <-limit:
			t.Fatal("the end of the connection was not told")
		}
	}
}
