package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// judges are authorization plugins: what they are asked is in asked, what they
// answer in says; nil allows everything.
type judges struct {
	mu    sync.Mutex
	asked []string
	last  authzRequest
	says  func(plugin, method string, r authzRequest) (verdict, error)
}

func (j *judges) Having(context.Context, string) ([]string, map[string]error) {
	return []string{"far"}, map[string]error{"dead": errors.New("it is dead")}
}

func (j *judges) Call(_ context.Context, c moss.PluginCall) error {
	text, err := json.Marshal(c.In)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	var r authzRequest
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	j.last = r
	j.asked = append(j.asked, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %d %s", c.Plugin, strings.TrimPrefix(c.Method, "AuthZPlugin."), r.RequestMethod, r.RequestURI, r.ResponseStatusCode, r.ResponseBody)))
	v := verdict{Allow: true}
	if j.says != nil {
		v, err = j.says(c.Plugin, c.Method, r)
	}
	*c.Out.(*verdict) = v
	return err
}

func newJudged(says func(plugin, method string, r authzRequest) (verdict, error)) (*Server, *judges) {
	s, _ := newFake()
	j := &judges{says: says}
	s.o.Plugins = j
	s.Authorize([]string{"one", "two", "one"})
	return s, j
}

func TestAuthorize(t *testing.T) {
	s, j := newJudged(nil)
	w := do(t, s, http.MethodGet, "/v1.44/volumes/data", "", "")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"Name":"data"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	body := strings.TrimSpace(w.Body.String())
	want := []string{
		"one AuthZReq GET /v1.44/volumes/data 0", "two AuthZReq GET /v1.44/volumes/data 0",
		"one AuthZRes GET /v1.44/volumes/data 200 " + body, "two AuthZRes GET /v1.44/volumes/data 200 " + body,
	}
	if !slices.Equal(j.asked, want) {
		t.Errorf("%q", j.asked)
	}
	j.asked = nil
	if w := do(t, s, http.MethodGet, "/volumes/nosuch", "", ""); w.Code != 404 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if len(j.asked) != 4 || !strings.HasPrefix(j.asked[3], `two AuthZRes GET /volumes/nosuch 404 {"message":`) {
		t.Errorf("%q", j.asked)
	}
	s.Authorize(nil)
	j.asked = nil
	if do(t, s, http.MethodGet, "/_ping", "", ""); len(j.asked) > 0 {
		t.Errorf("%q", j.asked)
	}
}

func TestAuthorizeBodies(t *testing.T) {
	s, j := newJudged(nil)
	const volume = `{"Name":"v"}`
	for _, tc := range []struct {
		path, ct, body string
		status, shown  int
	}{
		{"/volumes/create", "application/json", volume, 201, len(volume)},
		{"/volumes/create", "application/json; charset=utf-8", volume, 201, len(volume)},
		{"/volumes/create", "text/plain", volume, 400, 0}, // not shown, and not taken
		{"/volumes/create", "application/json", `{"Name":"v","Labels":{"x":"` + strings.Repeat("x", maxAuthzBody) + `"}}`, 413, -1},
		{"/v1.44/auth", "application/json", `{"username":"u","password":"p"}`, 401, 0},
	} {
		j.asked = nil
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, tc.path, strings.NewReader(tc.body))
		r.Header.Set("Content-Type", tc.ct)
		r.Header.Set("X-Registry-Auth", "secret")
		r.Header.Set("X-Other", "seen")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("%s %s: %d %.200s", tc.path, tc.ct, w.Code, w.Body)
		}
		if tc.shown < 0 {
			if len(j.asked) > 0 {
				t.Errorf("%q", j.asked)
			}
			continue
		}
		if len(j.last.RequestBody) != tc.shown || j.last.RequestHeaders["X-Other"] != "seen" || j.last.RequestHeaders["X-Registry-Auth"] != "" {
			t.Errorf("%s %s: it is shown %+v", tc.path, tc.ct, j.last)
		}
	}
}

func TestAuthorizeDenies(t *testing.T) {
	deny := func(method string) func(string, string, authzRequest) (verdict, error) {
		return func(plugin, m string, _ authzRequest) (verdict, error) {
			return verdict{Allow: plugin != "two" || m != "AuthZPlugin."+method, Msg: "go away"}, nil
		}
	}
	for _, method := range []string{"AuthZReq", "AuthZRes"} {
		for _, path := range []string{"/volumes/data", "/_ping", "/nosuch", "/events"} {
			s, _ := newJudged(deny(method))
			w := do(t, s, http.MethodGet, path, "", "")
			if w.Code != 403 || strings.TrimSpace(w.Body.String()) != `{"message":"authorization denied by plugin two: go away"}` {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	}
	s, j := newJudged(func(plugin, _ string, _ authzRequest) (verdict, error) {
		return verdict{Allow: true}, map[string]error{"one": moss.Errorf(moss.Unavailable, "it is dead")}[plugin]
	})
	w := do(t, s, http.MethodGet, "/volumes/data", "", "")
	if w.Code != 500 || !strings.Contains(w.Body.String(), "plugin one failed with error: it is dead") || len(j.asked) != 1 {
		t.Errorf("a dead one: %d %s %q", w.Code, w.Body, j.asked)
	}
}

// TestAuthorizeHijack: what is refused is refused before the connection is taken.
func TestAuthorizeHijack(t *testing.T) {
	socket, _ := serveWith(t, func(s *Server) {
		s.o.Plugins = &judges{says: func(_, m string, _ authzRequest) (verdict, error) {
			return verdict{Allow: m != "AuthZPlugin.AuthZRes", Msg: "no"}, nil
		}}
		s.Authorize([]string{"one"})
	})
	c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	fmt.Fprint(c, "POST /containers/one/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != 403 {
		t.Errorf("%s", res.Status)
	}
}

// allowAll makes servers of tests ask plugins that allow everything.
var allowAll bool

var allowedTests = map[string]func(*testing.T){
	"attach": TestClientAttachEcho, "tty": TestClientAttachTTY, "unread": TestClientUnreadInput, "leaves": TestClientLeaves, "missing": TestClientAttachMissing,
	"wait": TestClientWait, "logs": TestClientLogs, "exec": TestClientExec, "events": TestClientEvents, "http": TestHTTP, "panic": TestPanic,
	"hijack": TestOldHijack, "shutdown": TestShutdown, "websocket": TestWebSocketOutput, "websocket-echo": TestWebSocketEcho, "websocket-gone": TestWebSocketGone,
	"stats": TestStatsStream, "copy": TestCopyRoutes, "put": TestPutThatFailsEarly, "refusal": TestRefusalIsNotHeldUpByTheBody,
}

// TestAllowed runs tests of the API once more with a plugin that allows everything:
// nothing may change, not of what goes on nor of what takes the connection over.
func TestAllowed(t *testing.T) {
	allowAll = true
	defer func() { allowAll = false }()
	for name, test := range allowedTests {
		t.Run(name, test)
	}
}

func TestPluginsInfo(t *testing.T) {
	s, _ := newJudged(nil)
	w := do(t, s, http.MethodGet, "/info", "", "")
	for _, want := range []string{`"Volume":["local","far"]`, `"Authorization":["one","two"]`, `"syslog","far"]`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s lacks %s", w.Body, want)
		}
	}
}
