package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/moss-containers/moss/pkg/moss"
)

func dialWebSocket(t *testing.T, socket, path string, o *websocket.DialOptions) (ws *websocket.Conn, code int, err error) {
	t.Helper()
	if o == nil {
		o = &websocket.DialOptions{}
	}
	o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	ws, res, err := websocket.Dial(ctx, "ws://moss"+path, o) //nolint:bodyclose // the library says that nobody has to
	if res != nil {
		code = res.StatusCode
	}
	if err == nil {
		ws.SetReadLimit(-1)
		t.Cleanup(func() { _ = ws.CloseNow() })
	}
	return ws, code, err
}

// readAll reads messages of a kind until the server says farewell.
func readAll(t *testing.T, ws *websocket.Conn, kind websocket.MessageType) []byte {
	t.Helper()
	var all []byte
	for {
		k, p, err := ws.Read(t.Context())
		if err != nil {
			if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Errorf("it ends with %v", err)
			}
			return all
		}
		if k != kind {
			t.Errorf("a message of kind %s, want %s", k, kind)
		}
		all = append(all, p...)
	}
}

func TestWebSocketOutput(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	for path, tc := range map[string]struct {
		kind websocket.MessageType
		want string
	}{
		"/attach/ws?stream=1&stdout=1&stderr=1":        {websocket.MessageBinary, "to stdout\nto stderr\n"},
		"/attach/ws?stream=1&stderr=1":                 {websocket.MessageBinary, "to stderr\n"},
		"/attach/ws?stream=1&stderr=1&stdin=1":         {websocket.MessageBinary, "to stderr\n"}, // it has none
		"/v1.41:/attach/ws?stream=1":                   {websocket.MessageBinary, "to stdout\nto stderr\n"},
		"/v1.27:/attach/ws?stream=1&detachKeys=ctrl-a": {websocket.MessageText, "to stdout\nto stderr\n"},
	} {
		id := create(t, c, container.Config{})
		version, rest, ok := strings.Cut(path, ":")
		if !ok {
			version, rest = "", path
		}
		ws, _, err := dialWebSocket(t, socket, version+"/containers/"+id+rest, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://elsewhere"}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, ws, tc.kind); string(got) != tc.want {
			t.Errorf("%s: %q, want %q", path, got, tc.want)
		}
		if _, err := c.ContainerRemove(t.Context(), id, client.ContainerRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWebSocketEcho(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{OpenStdin: true})
	ws, _, err := dialWebSocket(t, socket, "/containers/"+id+"/attach/ws?stream=1&stdin=1&stdout=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContainerStart(t.Context(), id, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 4<<20)
	_, _ = rand.Read(want)
	go func() { // in messages smaller and larger than any buffer
		for n, rest := 1, want; len(rest) > 0; n *= 8 {
			n = min(n, len(rest))
			if ws.Write(t.Context(), websocket.MessageBinary, rest[:n]) != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	var got []byte
	for len(got) < len(want) {
		_, p, err := ws.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the echo differs")
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("close: %v", err)
	}
	select {
	case <-w.left:
	case <-w.byRef[id].done: // its input has ended
	case <-time.After(time.Minute):
		t.Error("nobody noticed that the client has left")
	}
}

// A client that only listens is noticed to leave too, however it does.
func TestWebSocketGone(t *testing.T) {
	socket, w := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{})
	for name, leave := range map[string]func(*websocket.Conn) error{
		"farewell": func(ws *websocket.Conn) error { return ws.Close(websocket.StatusGoingAway, "bye") },
		"hang-up":  (*websocket.Conn).CloseNow,
	} {
		ws, _, err := dialWebSocket(t, socket, "/containers/"+id+"/attach/ws?stream=1&stdout=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ws.Write(t.Context(), websocket.MessageText, []byte("nobody reads that")); err != nil {
			t.Fatal(err)
		}
		_ = leave(ws) // the server may be faster
		select {
		case <-w.left:
		case <-time.After(time.Minute):
			t.Fatal(name + ": nobody noticed")
		}
	}
}

func TestWebSocketRefusals(t *testing.T) {
	socket, _ := serve(t)
	c := dial(t, socket)
	id := create(t, c, container.Config{})
	_, code, err := dialWebSocket(t, socket, "/containers/nosuch/attach/ws?stream=1", nil)
	if err == nil || code != http.StatusNotFound {
		t.Errorf("no container: %v", err)
	}
	_, code, err = dialWebSocket(t, socket, "/containers/"+id+"/attach/ws?stream=1&detachKeys=no,key", nil)
	if err == nil || code != http.StatusBadRequest {
		t.Errorf("bad keys: %v", err)
	}
	s, w := newFake()
	w.byRef["web"] = &proc{done: make(chan struct{}), c: moss.Container{ID: "web"}}
	tcp := httptest.NewServer(s)
	defer tcp.Close()
	for origin, code := range map[string]int{"http://elsewhere": http.StatusForbidden, tcp.URL: http.StatusSwitchingProtocols} {
		ws, res, err := websocket.Dial(t.Context(), tcp.URL+"/containers/web/attach/ws?stream=1", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}}) //nolint:bodyclose // the library says that nobody has to
		if res == nil || res.StatusCode != code {
			t.Errorf("over TCP from a page of %s: %v, want %d", origin, err, code)
		}
		if err == nil {
			_ = ws.CloseNow()
		}
	}
	s.o.Views = fakeViews{&world{byRef: map[string]*proc{"web": {}}}}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest(get, "/containers/web/attach/ws", nil))
	if body, _ := io.ReadAll(rec.Body); rec.Code != http.StatusBadRequest || !strings.Contains(string(body), "Upgrade: websocket") {
		t.Errorf("without upgrade: %d %s", rec.Code, body)
	}
}

// Who is attached is told that the engine goes.
func TestWebSocketStopping(t *testing.T) {
	var s *Server
	socket, w := serveWith(t, func(made *Server) { s = made })
	w.mu.Lock()
	w.byRef["x"] = &proc{done: make(chan struct{}), c: moss.Container{ID: "x", Config: moss.ContainerConfig{OpenStdin: true}}}
	w.mu.Unlock()
	ws, _, err := dialWebSocket(t, socket, "/v1.43/containers/x/attach/ws?stream=1&stdin=1&stdout=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	_, _, err = ws.Read(t.Context())
	if e := (websocket.CloseError{}); !errors.As(err, &e) || e.Code != websocket.StatusGoingAway || e.Reason != errClosing.Error() {
		t.Errorf("it ends with %v", err)
	}
}
