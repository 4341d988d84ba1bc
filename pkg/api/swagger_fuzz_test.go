package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// unlisted are statuses that swagger does not list and that are right all the same.
var unlisted = map[int]string{
	http.StatusBadRequest:            "a parameter or a field that cannot be read, on any route",
	http.StatusNotImplemented:        "refused, with the reason and the way out",
	http.StatusRequestEntityTooLarge: "a body over the limit",
	http.StatusServiceUnavailable:    "docker's answer where there is no swarm",
}

// unlistedHere are such statuses of single operations.
var unlistedHere = map[string]map[int]string{
	"GET /containers/{id}/top":       {http.StatusConflict: "it does not run, as docker says it"},
	"POST /containers/{id}/pause":    {http.StatusConflict: "it does not run, as docker says it"},
	"POST /containers/{id}/unpause":  {http.StatusConflict: "it is not paused, as docker says it"},
	"POST /images/{name}/push":       {http.StatusUnauthorized: "the registry's answer, passed on"},
	"GET /images/json":               {http.StatusNotFound: "the image of before= or since=, as docker says it"},
	"POST /networks/{id}/connect":    {http.StatusConflict: "of the fake"},
	"POST /networks/{id}/disconnect": {http.StatusConflict: "of the fake"},
}

// TestSwaggerRequests sends requests of every kind to every operation of
// moby's swagger.
func TestSwaggerRequests(t *testing.T) {
	all := readSwagger(t).Operations
	for _, op := range all {
		t.Run(op.Method+op.Path, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(15) {
				sendOperation(t, op, seed)
			}
		})
	}
}

// FuzzSwagger does the same for long.
func FuzzSwagger(f *testing.F) {
	all := readSwagger(f).Operations
	for i := range all {
		f.Add(uint16(i), uint64(1))
	}
	f.Fuzz(func(t *testing.T, row uint16, seed uint64) {
		sendOperation(t, all[int(row)%len(all)], seed)
	})
}

// sendOperation makes a request of the seed, sends it and looks at the answer.
func sendOperation(t *testing.T, op operation, seed uint64) {
	t.Helper()
	g := generator{rand.New(rand.NewPCG(seed, 7))}
	path, plain := g.path(op.Path)
	var body []byte
	contentType := "application/json"
	if op.Body != nil || g.one(8) {
		body = g.body(op.Body)
		if len(op.Consumes) > 0 {
			contentType = g.pick(op.Consumes...)
		}
	}
	// The follower's end; it is no limit on how long an answer may take.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, op.Method, "http://moss/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Path, r.URL.RawQuery = g.pick("", "/v"+MaxVersion)+path, g.query(op.Query)
	if len(body) > 0 {
		r.Header.Set("Content-Type", contentType)
	}
	for _, name := range slices.Sorted(maps.Keys(op.Header)) {
		if g.one(2) {
			r.Header.Set(name, g.text())
		}
	}
	if strings.HasSuffix(op.Path, "/ws") || g.one(10) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", g.pick("tcp", "websocket", "h2c", "\x01"))
	}
	what := func() string {
		b := body
		if len(b) > 600 {
			b = b[:600]
		}
		return op.Method + " " + r.URL.String() + " " + string(b)
	}

	s, w := newFake()
	faults := &faultLog{}
	s.log = slog.New(faults)
	if _, _, err := (fakeContainers{w}).Create(ctx, CreateRequest{Name: "c1", Config: moss.ContainerConfig{Image: "busybox"}}); err != nil {
		t.Fatal(err)
	}
	rec := &connRecorder{ResponseRecorder: httptest.NewRecorder(), ctx: ctx}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		s.ServeHTTP(rec, r)
	}()
	select {
	case <-answered:
	case <-time.After(2 * time.Minute):
		t.Fatalf("no answer: %s", what())
	}
	rec.end()
	if p := faults.text(); p != "" {
		t.Fatalf("%s\n%s", what(), p)
	}
	if rec.taken {
		return // the answer went over the connection
	}
	answer := rec.Body.String()
	switch {
	case plain && rec.Code == http.StatusNotFound && strings.Contains(answer, "page not found"):
		t.Errorf("no such route: %s", what())
	case rec.Code == http.StatusInternalServerError && ctx.Err() != nil:
		return // the client had gone
	case plain && !slices.Contains(op.Statuses, rec.Code) && unlisted[rec.Code] == "" && unlistedHere[op.Method+" "+op.Path][rec.Code] == "":
		t.Errorf("swagger does not know this status: %d %s, of %s", rec.Code, answer, what())
	case rec.Code == http.StatusInternalServerError:
		t.Errorf("%d %s, of %s", rec.Code, answer, what())
	}
	if rec.Code < 400 || op.Method == head {
		return
	}
	var failure struct{ Message string }
	if err := json.Unmarshal([]byte(answer), &failure); err != nil || failure.Message == "" {
		t.Errorf("%d %q is no message, of %s", rec.Code, answer, what())
	}
}

// generator makes what a client may send, well-meaning or not.
type generator struct{ *rand.Rand }

func (g generator) one(in int) bool { return g.IntN(in) == 0 }

func (g generator) pick(of ...string) string { return of[g.IntN(len(of))] }

// path fills in the variables, and says whether only with plain names.
func (g generator) path(pattern string) (path string, plain bool) {
	plain = true
	for {
		before, rest, found := strings.Cut(pattern, "{")
		path += before
		if !found {
			return path, plain
		}
		_, pattern, _ = strings.Cut(rest, "}")
		if g.one(3) {
			plain = false
			path += g.pick("..", "a/b", "\x00", strings.Repeat("x", 5000), "é\u202e", "sha256:"+strings.Repeat("0", 64), "-", "a@b", "%2f", "c1/json", "?", " ", "/c1")
			continue
		}
		path += g.pick("c1", "nobody", "busybox", "bridge", "far")
	}
}

func (g generator) query(of map[string]string) string {
	q := url.Values{}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if g.one(2) {
			continue
		}
		kind := of[name]
		if name == "filters" || name == "buildargs" || name == "labels" || name == "cachefrom" {
			kind = "filters"
		}
		for range 1 + g.IntN(6)/5 {
			q.Add(name, g.param(kind))
		}
	}
	if g.one(10) {
		return q.Encode() + g.pick("&%", "&;", "&a=%zz", "&=", "&\x7f=1")
	}
	return q.Encode()
}

func (g generator) param(kind string) string {
	values, isEnum := strings.CutPrefix(kind, "enum:")
	switch {
	case g.one(5):
		return g.text()
	case isEnum:
		return g.pick(strings.Split(values, "|")...)
	case kind == "boolean":
		return g.pick("0", "1", "true", "false", "no", "2")
	case kind == "integer":
		return g.number()
	case kind == "filters":
		return g.pick(`{"label":["a=b"]}`, `{"label":{"a":true}}`, `{"until":["1h"]}`, `{"name":["("]}`, `{"reference":["["]}`, `{"status":["running"]}`,
			`{"dangling":["x"]}`, `{"id":[""]}`, `{"":[]}`, `[]`, `{"label":null}`, `{"a":{"b":{}}}`, `{"before":["c1"]}`, `{"since":["nobody"]}`, `{"exited":["99999999999999999999"]}`, `null`, `{`)
	}
	return g.pick("c1", "busybox", "linux/amd64", "/etc", "a:b", "latest", "1h", "-", "{}", `{"os":"linux","architecture":"amd64"}`, "KILL", "all", "removed")
}

func (g generator) number() string {
	return g.pick("0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "4294967296", "65536", "1e9", "0x7f", "1.5", " 1", "1700000000.999999999", "NaN")
}

func (g generator) text() string {
	return g.pick("", " ", "\x00", "..", "../../etc/passwd", "a\r\nb: c", "é\u202e", "\xff\xfe", strings.Repeat("x", 70000), "%s%n", "{", "[]", "null", "e30=", "e30", "bnVsbA==", "W10=", "-1", ":", "@", "a=b", "'\"`$(id)", "sha256:zz")
}

// body is JSON of the schema, or something else.
func (g generator) body(schema any) []byte {
	switch g.IntN(12) {
	case 0:
		return []byte(g.pick("", "null", "[]", "{", "0", `"x"`, `{}{}`, `{"":null}`, "\x00", "\xff", `{"a":1}`, strings.Repeat("[", 20000), strings.Repeat(`{"a":`, 20000)))
	case 1:
		return []byte(g.text())
	}
	if schema == nil {
		schema = map[string]any{"*": "string"}
	}
	text, err := json.Marshal(g.value(schema, []int{2, 4, 12}[g.IntN(3)]))
	if err != nil {
		panic(err)
	}
	return text
}

// value fits the schema mostly. Of an object's fields, one in sparse is there.
func (g generator) value(schema any, sparse int) any {
	if g.one(60) {
		return []any{nil, "", "x", -1, 1.5, true, []any{}, map[string]any{}, []any{nil}, map[string]any{"": nil}}[g.IntN(10)]
	}
	switch s := schema.(type) {
	case map[string]any:
		out := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(s)) {
			switch {
			case name == "*":
				for range g.IntN(3) {
					out[g.pick("a", "80/tcp", "bridge", "/data", "", "x/y", "0-70000/udp", "com.docker.network.driver.mtu")] = g.value(s[name], sparse)
				}
			case name == "Image":
				out[name] = g.pick("busybox", "busybox", "busybox", "none", "")
			case g.one(sparse):
				out[name] = g.value(s[name], sparse)
			}
		}
		return out
	case []any:
		out := []any{}
		for range g.IntN(3) {
			out = append(out, g.value(s[0], sparse))
		}
		return out
	case string:
		values, isEnum := strings.CutPrefix(s, "enum:")
		switch {
		case isEnum && !g.one(8):
			return g.pick(strings.Split(values, "|")...)
		case s == "integer" || s == "number":
			return []any{0, 1, -1, 1 << 20, int64(1) << 62, -(int64(1) << 62), 65536, json.Number("1e30")}[g.IntN(8)]
		case s == "boolean":
			return g.one(2)
		case s == "object":
			return map[string]any{}
		}
		if g.one(4) {
			return g.text()
		}
		return g.pick("a", "c1", "bridge", "host", "container:c1", "/tmp:/data:ro", "10.0.0.1", "10.0.0.0/8", "fd00::/64", "02:00:00:00:00:01", "always", "json-file", "local", "1000:1000", "A=b", "80/tcp", "0-1", "2026-01-02T03:04:05Z", "label=disable", "rw,size=1m")
	}
	return nil
}

// faultLog is a log that keeps what is said of panics.
type faultLog struct {
	mu    sync.Mutex
	found string
}

func (*faultLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (f *faultLog) WithAttrs([]slog.Attr) slog.Handler         { return f }
func (f *faultLog) WithGroup(string) slog.Handler              { return f }
func (f *faultLog) Handle(_ context.Context, r slog.Record) error {
	if !strings.Contains(r.Message, "panic") {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found += r.Message
	r.Attrs(func(a slog.Attr) bool { f.found += " " + a.String(); return true })
	return nil
}

func (f *faultLog) text() string { f.mu.Lock(); defer f.mu.Unlock(); return f.found }

// connRecorder is a recorder whose connection can be taken over; the client at
// its other end says nothing, reads everything, and leaves with ctx.
type connRecorder struct {
	*httptest.ResponseRecorder
	ctx   context.Context // the client leaves with it
	taken bool
	conn  net.Conn
	read  sync.WaitGroup
}

func (c *connRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	ours, theirs, err := socketPair() // not net.Pipe: that a client has left is seen at its descriptor
	if err != nil {
		return nil, nil, err
	}
	c.taken, c.conn = true, theirs
	context.AfterFunc(c.ctx, func() { _ = theirs.Close() })
	c.read.Go(func() { _, _ = io.Copy(io.Discard, theirs) }) // ends with the connection
	return ours, bufio.NewReadWriter(bufio.NewReader(ours), bufio.NewWriter(ours)), nil
}

func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, e := net.FileConn(f)
		conns[i], err = c, errors.Join(err, e, f.Close())
	}
	return conns[0], conns[1], err
}

func (c *connRecorder) end() {
	if c.conn != nil {
		_ = c.conn.Close() // ends the reading, which is waited for
		c.read.Wait()
	}
}
