package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

func do(t *testing.T, s http.Handler, method, path, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestHTTP(t *testing.T) {
	s, _ := newFake()
	const js = "application/json"
	for _, tc := range []struct {
		method, path, ct, body string
		status                 int
		text                   string // a part of the answer
	}{
		{get, "/_ping", "", "", 200, "OK"},
		{head, "/v1.24/_ping", "", "", 200, ""},
		{"OPTIONS", "/anything", "", "", 200, ""},
		{get, "/v1.23/version", "", "", 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n"},
		{get, "/v1.57/version", "", "", 400, `{"message":"client version 1.57 is too new. Maximum supported API version is 1.56"}`},
		{get, "/v2.0/version", "", "", 400, "too new"},
		{get, "/v1.56.1.2/version", "", "", 400, "invalid API version"},
		{get, "/nothing", "", "", 404, `{"message":"page not found"}`},
		{get, "/v1.56/nothing", "", "", 404, `{"message":"page not found"}`},
		{post, "/version", "", "", 404, `{"message":"page not found"}`},
		{get, "/containers/a/b/json", "", "", 404, "No such container: a/b"},
		{get, "/containers/nobody/json", "", "", 404, `{"message":"No such container: nobody"}`},
		{get, "/containers//nobody/json", "", "", 404, `{"message":"No such container: nobody"}`},
		{post, "/containers/create", js, `{"Image":"busybox"} {}`, 400, "unexpected content after JSON"},
		{post, "/containers/create", js, `{"Image":`, 400, "invalid JSON: unexpected end of JSON input"},
		{post, "/containers/create", js, ``, 400, "invalid JSON: got EOF while reading request body"},
		{post, "/containers/create", js, `null`, 400, "config cannot be empty"},
		{post, "/containers/create", "text/plain", `{}`, 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{post, "/containers/create", "/", `{}`, 400, "malformed Content-Type header (/)"},
		{post, "/containers/create", "", `{}`, 400, "malformed Content-Type header"},
		{post, "/containers/create", js, `{"Image":"none"}`, 404, "No such image: none"},
		{post, "/containers/create?name=a", js, `{"Image":"busybox"}`, 400, "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"},
		{post, "/containers/create?name=" + strings.Repeat("%20", 3), js, `{"Image":"busybox"}`, 400, "Invalid container name"},
		{post, "/containers/create", js, `{"Image":"busybox","Imagine":1}`, 400, "Imagine: no such field"},
		{post, "/containers/create", js, `{"Image":"busybox","Imagine":null,"HostConfig":{"CpuFoo":0}}`, 201, `"Warnings":null`},
		{post, "/containers/create?name=one", js, `{"Image":"busybox"}`, 201, `"Id":"`},
		{post, "/containers/create?name=one", js, `{"Image":"busybox"}`, 409, "already in use"},
		{post, "/containers/one/start", js, `{"Binds":[]}`, 400, "non-empty request body"},
		{post, "/containers/one/start", "", "", 204, ""},
		{post, "/containers/one/start", "", "", 304, ""},
		{post, "/containers/one/stop?t=x", "", "", 400, "invalid value"},
		{post, "/containers/one/stop?t=-1&signal=RTMIN%2B3", "", "", 204, ""},
		{post, "/containers/one/kill?signal=SIGWHAT", "", "", 400, "invalid signal: SIGWHAT"},
		{post, "/containers/one/resize?h=-1&w=2", "", "", 400, `invalid resize height`},
		{post, "/containers/one/resize?h=24&w=80", "", "", 200, ""},
		{post, "/containers/one/wait?condition=never", "", "", 400, `invalid condition: \"never\"`},
		{post, "/containers/one/attach?detachKeys=ctrl-!", "", "", 400, "Invalid detach keys (ctrl-!) provided"},
		{get, "/containers/one/logs", "", "", 400, "Bad parameters: you must choose at least one stream"},
		{get, "/containers/one/logs?stdout=1&since=yesterday", "", "", 400, "invalid value"},
		{get, "/containers/one/logs?stdout=1&tail=some", "", "", 400, "invalid value"},
		{post, "/containers/none/rename?name=b", "", "", 404, "No such container: none"},
		{post, "/containers/create?name=two", js, `{"Image":"busybox"}`, 201, `"Id":"`},
		{post, "/containers/two/rename?name=three", "", "", 204, ""},
		{get, "/containers/two/json", "", "", 404, ""},
		{get, "/containers/json?size=1&all=1", "", "", 200, `"SizeRw":17,"SizeRootFs":4338`},
		{get, "/containers/three/json?size=1", "", "", 200, `"SizeRw":17,"SizeRootFs":4338`},
		{post, "/containers/three/update", js, `{"Memory":67108864,"PidsLimit":-1,"RestartPolicy":{"Name":"always"}}`, 200, `{"Warnings":["a warning"]}`},
		{post, "/containers/none/update", js, `{}`, 404, "No such container: none"},
		{post, "/containers/three/update", js, `{"Memory":5}`, 400, "Minimum memory limit allowed is 6MB"},
		{post, "/containers/three/update", js, `{"Limit":5}`, 400, "Limit: no such field"},
		{post, "/containers/three/update", js, `{"CpuRealtimePeriod":5}`, 501, "real-time cpu limits"},
		{post, "/containers/three/update", js, `{"Ulimits":[{"Name":"nofile","Soft":1,"Hard":1}]}`, 501, "ulimits of a container"},
		{post, "/containers/three/update", js, `{"RestartPolicy":{"MaximumRetryCount":5}}`, 400, "maximum retry count"},
		{post, "/containers/three/pause", "", "", 409, "container three is created"},
		{post, "/containers/none/pause", "", "", 404, "No such container: none"},
		{post, "/containers/three/unpause", "", "", 409, "container three is created"},
		{post, `/containers/prune?filters={"dangling":["true"]}`, "", "", 400, `"invalid filter 'dangling'"`},
		{post, `/containers/prune?filters={"until":["1h","2h"]}`, "", "", 400, `"invalid filter 'until=1h 2h'"`},
		{post, `/containers/prune?filters={"until":["x"]}`, "", "", 400, `"invalid filter 'until=x'"`},
		{post, `/containers/prune?filters={"label!":["a"]}`, "", "", 200, `"SpaceReclaimed":`},
		{post, "/containers/one/exec", js, `{}`, 400, "No exec command specified"},
		{post, "/containers/one/exec", js, `{"Cmd":["a"],"DetachKeys":"bad keys"}`, 400, "Invalid detach keys"},
		{post, "/exec/none/start", js, `{}`, 404, "No such exec instance: none"},
		{get, "/containers/json?filters={", "", "", 400, `"invalid filter"`},
		{get, `/containers/json?filters={"nope":["1"]}`, "", "", 400, `"invalid filter 'nope'"`},
		{get, `/containers/json?filters={"status":["up"]}`, "", "", 400, `"invalid filter 'status=up'"`},
		{get, `/containers/json?filters={"exited":{"x":true}}`, "", "", 400, `"invalid filter 'exited=x'"`},
		{get, `/containers/json?filters={"publish":["80-81/tcp"],"is-task":["true"]}`, "", "", 200, `[]`},
		{get, "/events?since=5&until=3", "", "", 400, "cannot be after"},
		{get, `/events?filters={"x":["y"]}`, "", "", 400, `"invalid filter 'x'"`},
		{get, `/images/json?filters={"dangling":["maybe"]}`, "", "", 400, `"invalid filter 'dangling=maybe'"`},
		{get, `/images/json?filters={"since":["busybox"]}`, "", "", 200, `[]`},
		{get, "/v1.42/images/json", "", "", 200, `"RepoTags":["\u003cnone\u003e:\u003cnone\u003e"]`},
		{post, "/images/busybox/tag?repo=A", "", "", 400, "must be lowercase"},
		{post, "/images/busybox/tag?repo=a&tag=b", "", "", 201, ""},
		{del, "/images/me/tools:1", "", "", 200, `[{"Untagged":"busybox:latest"},{"Deleted":"sha256:`},
		{post, "/images/create?fromSrc=-&repo=a&tag=b", "", "tar", 200, `{"status":"sha256:imported"}`},
		{get, "/networks/bridge", "", "", 200, `"Subnet":"10.88.0.0/16"`},
		{get, "/networks/bridge", "", "", 200, `"Status":{"IPAM":{"Subnets":{"10.88.0.0/16":{"IPsInUse":`},
		{get, "/v1.51/networks/bridge", "", "", 200, `"Containers":{`},
		{get, "/networks/b", "", "", 200, `"Name":"none"`},
		{get, "/networks/a", "", "", 400, "ambiguous"},
		{get, "/networks/x", "", "", 404, "network x not found"},
		{post, "/networks/create", js, `{"Name":"all","CheckDuplicate":true,"Internal":true,"Attachable":true,"EnableIPv6":true,"Labels":{"l":"v"},
			"IPAM":{"Driver":"default","Config":[{"Subnet":"10.7.0.0/16","IPRange":"10.7.1.0/24","Gateway":"10.7.0.9","AuxiliaryAddresses":{"r":"10.7.0.7"}}]},
			"Options":{"com.docker.network.bridge.enable_icc":"false","com.docker.network.bridge.enable_ip_masquerade":"false","com.docker.network.driver.mtu":"1400","com.docker.network.bridge.name":"mine"}}`, 201, `"Id":"made1","Warning":"a word"`},
		{post, "/networks/create", js, `{"Name":"n","Driver":"macvlan"}`, 501, "no driver macvlan"},
		{post, "/networks/create", js, `{"Name":"n","Options":{"x":"y"}}`, 501, "the network option x"},
		{post, "/networks/create", js, `{"Name":"n","ConfigOnly":true}`, 501, "configurations of others"},
		{post, "/networks/create", js, `{"Name":"n","IPAM":{"Driver":"other"}}`, 501, "management driver other"},
		{post, "/networks/create", js, `{"Name":"n","Options":{"com.docker.network.driver.mtu":"x"}}`, 400, "is no MTU"},
		{del, "/networks/bridge", "", "", 403, "pre-defined network"},
		{post, `/networks/prune?filters={"label":["a"]}`, "", "", 200, `{"NetworksDeleted":["a"]}`},
		{post, "/networks/n/connect", js, `{"Container":"web","EndpointConfig":{"Aliases":["a"],"IPAMConfig":{"IPv4Address":"10.7.0.3"},"MacAddress":"02:00:00:00:00:01"}}`, 409, "web to n as [a] 10.7.0.3 02:00:00:00:00:01"},
		{post, "/networks/n/disconnect", js, `{"Container":"web","Force":true}`, 409, "web from n true"},
		{get, `/networks?filters={"type":["builtin"],"driver":["bridge"]}`, "", "", 200, `[{"Name":"bridge"`},
		{get, `/networks?filters={"name":["^bri.*e$","["]}`, "", "", 200, `[{"Name":"bridge"`},
		{get, `/networks?filters={"name":["^ridge"]}`, "", "", 200, `[]`},
		{get, `/networks?filters={"name":["ridge"],"id":["^.*$"]}`, "", "", 200, `[{"Name":"bridge"`},
		{get, `/volumes?filters={"name":["none"]}`, "", "", 200, `{"Volumes":[],"Warnings":["list far: it is away"]}`},
		{get, `/volumes?filters={"what":["x"]}`, "", "", 400, "invalid filter 'what'"},
		{get, "/volumes/data", "", "", 200, `"Mountpoint":"/d/volumes/data/_data","Name":"data"`},
		{del, "/volumes/data", "", "", 409, "remove data: volume is in use - [c]"},
		{del, "/volumes/x?force=1", "", "", 204, ""},
		{post, "/volumes/prune", "", "", 200, `{"VolumesDeleted":["gone"],"SpaceReclaimed":7}`},
		{get, "/volumes/x", "", "", 404, "get x: no such volume"},
		{post, "/volumes/create", js, `{"Name":"mine"}`, 201, `"Name":"mine"`},
		{get, `/secrets?filters={"name":["none"]}`, "", "", 200, `[]`},
		{get, `/secrets?filters={"what":["x"]}`, "", "", 400, "invalid filter 'what'"},
		{get, "/secrets/db", "", "", 200, `{"ID":"id-db","Version":{"Index":3},"CreatedAt":"2024-05-06T12:00:00Z","UpdatedAt":"2024-05-06T12:00:00Z","Spec":{"Name":"db","Labels":{"a":"b"}}}`},
		{get, "/configs/db", "", "", 200, `"Spec":{"Name":"db","Labels":{"a":"b"},"Data":"b2ZmZW4="}`},
		{get, "/configs", "", "", 200, `[{"ID":"id-db"`},
		{get, "/secrets/x", "", "", 404, "secret x not found"},
		{post, "/secrets/create", js, `{"Name":"n","Labels":{"k":"v"},"Data":"eA=="}`, 201, `{"ID":"secret n map[k:v] x"}`},
		{post, "/configs/create", js, `{"Name":"n","Data":"eA=="}`, 201, `{"ID":"config n map[] x"}`},
		{post, "/secrets/create", js, `{"Name":"n","Driver":{"Name":"vault"}}`, 501, "moss does not do drivers of secrets yet"},
		{post, "/configs/create", js, `{"Name":"n","Templating":{"Name":"golang"}}`, 501, "templates of secrets and configs"},
		{post, "/secrets/create", js, `{"Name":"n","What":1}`, 400, "What"},
		{post, "/secrets/db/update?version=3", js, `{"Name":"db","Labels":{"n":"w"}}`, 200, ""},
		{post, "/configs/db/update?version=3", js, `{"Name":"db","Labels":{"n":"w"},"Data":"b2ZmZW4="}`, 200, ""},
		{post, "/configs/db/update?version=3", js, `{"Name":"db","Data":"eA=="}`, 400, "only updates to Labels are allowed"},
		{post, "/secrets/db/update?version=3", js, `{"Name":"other"}`, 400, "only updates to Labels are allowed"},
		{post, "/secrets/db/update?version=2", js, `{"Name":"db"}`, 400, "update out of sequence"},
		{post, "/secrets/db/update", js, `{"Name":"db"}`, 400, "invalid secret version ''"},
		{del, "/secrets/db", "", "", 409, "secret 'db' is in use"},
		{del, "/configs/other", "", "", 204, ""},
		{get, "/swarm", "", "", 503, "This node is not a swarm manager."},
		{post, "/swarm/init", js, `{}`, 501, "moss does not do swarm yet"},
		{post, "/build", "", "", 501, "moss does not build images yet"},
		{post, "/build/prune", "", "", 200, `"SpaceReclaimed":0`},
		{get, "/containers/json?filters=%zz", "", "", 400, "invalid query"},
	} {
		w := do(t, s, tc.method, tc.path, tc.ct, tc.body)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.text) {
			t.Errorf("%s %s: %d %s, want %d %s", tc.method, tc.path, w.Code, w.Body, tc.status, tc.text)
		}
		if w.Code == 304 && w.Body.Len() > 0 {
			t.Errorf("%s %s: a 304 with a body", tc.method, tc.path)
		}
		for k, v := range map[string]string{"Api-Version": "1.56", "Docker-Experimental": "false", "Ostype": "linux", "Server": "moss/0.1.0 (linux)"} {
			if got := w.Header().Get(k); got != v {
				t.Errorf("%s %s: header %s is %q", tc.method, tc.path, k, got)
			}
		}
	}
}

// TestRoutes fills every row's variables in and expects to get that row back.
func TestRoutes(t *testing.T) {
	table := routes()
	for i := range table {
		path := strings.NewReplacer("{id}", "abc", "{name}", "x/y").Replace(table[i].path)
		got, _, ok := find(table, table[i].method, path)
		if !ok || got != &table[i] {
			t.Errorf("%s %s leads to %+v", table[i].method, path, got)
		}
		if table[i].min.before(oldest) || newest.before(table[i].min) {
			t.Errorf("%s: API version %s", path, table[i].min)
		}
	}
}

func TestEveryClassHasAStatus(t *testing.T) {
	for c := moss.Internal; !strings.HasPrefix(c.String(), "class "); c++ {
		if statuses[c] == 0 {
			t.Errorf("class %q has no status", c)
		}
	}
	if statusOf(errors.New("plain")) != 500 || statusOf(context.Canceled) != 503 {
		t.Error("an error without a class")
	}
}

type endless struct{ n atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.n.Add(int64(len(p)))
	return len(p), nil
}

func TestHugeBody(t *testing.T) {
	socket, _ := serve(t)
	hc := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	for _, length := range []int64{1 << 30, -1} {
		body := &endless{}
		r, err := http.NewRequestWithContext(t.Context(), post, "http://d/containers/create", io.NopCloser(io.LimitReader(body, 1<<30)))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		r.Header.Set("Content-Type", "application/json")
		res, err := hc.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(b), "4194304") {
			t.Errorf("length %d: %d %s", length, res.StatusCode, b)
		}
		if body.n.Load() > 64<<20 {
			t.Errorf("length %d: %d bytes were read", length, body.n.Load())
		}
	}
}

func TestParallel(t *testing.T) {
	socket, _ := serve(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	for i := range 2000 {
		wg.Go(func() {
			c, err := net.Dial("unix", socket)
			if err == nil {
				defer c.Close()
				_, err = fmt.Fprintf(c, "GET /v1.%d/info HTTP/1.1\r\nHost: d\r\n\r\n", 24+i%33)
			}
			var res *http.Response
			if err == nil {
				res, err = http.ReadResponse(bufio.NewReader(c), nil)
			}
			if err == nil {
				defer res.Body.Close()
			}
			if err == nil && res.StatusCode != 200 {
				err = errors.New(res.Status)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[err.Error()]++
			}
		})
	}
	wg.Wait()
	if len(failed) > 0 {
		t.Errorf("%v", failed)
	}
}

type panicSystem struct{ fakeSystem }

func (panicSystem) Info(context.Context) (moss.Info, error) { panic("boom") }

func TestPanic(t *testing.T) {
	s, w := newFake()
	s.o.System = panicSystem{fakeSystem{w}}
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	defer func() {
		if said := log.String(); !strings.Contains(said, "panic=boom") || !strings.Contains(said, "panicSystem.Info") {
			t.Errorf("the log has no stack: %s", said)
		}
	}()
	if w := do(t, s, get, "/info", "", ""); w.Code != 500 || !strings.Contains(w.Body.String(), "a fault in moss: boom") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestPeers(t *testing.T) {
	s, _ := newFake()
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	me := uint32(os.Getuid())
	is := func(uid uint32, err error) func() (uint32, error) {
		return func() (uint32, error) { return uid, err }
	}
	for _, tc := range []struct {
		uid    uint32
		real   func() (uint32, error)
		status int
	}{
		{me, nil, 200},
		{65534, is(1007, nil), 403},
		{65534, is(1008, nil), 403},
		{me + 1, is(1007, nil), 403}, // again
		{me + 2, nil, 403},
		{65534, is(0, nil), 200},
		{65534, is(0, errors.New("nobody knows")), 403},
	} {
		ctx := context.WithValue(t.Context(), peerKey{}, peer{cred: &unix.Ucred{Uid: tc.uid}, uid: tc.real})
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, get, "/_ping", nil))
		if w.Code != tc.status {
			t.Errorf("uid %d gets %d", tc.uid, w.Code)
		}
	}
	said := log.String()
	for _, uid := range []uint32{1007, 1008, me + 2} {
		if n := strings.Count(said, fmt.Sprintf("level=WARN msg=\"another user is refused at the socket; this is told once\" uid=%d ", uid)); n != 1 {
			t.Errorf("the log tells %d times of %d:\n%s", n, uid, said)
		}
	}
	for uid := range uint32(2 * mostStrangers) {
		s.stranger(5000 + uid)
	}
	if len(s.strangers) > mostStrangers {
		t.Errorf("%d users are kept", len(s.strangers))
	}
}

func TestErrorBody(t *testing.T) {
	why := "no \xff \"room\" <here>"
	var said struct{ Message string }
	if err := json.Unmarshal(ErrorBody(why), &said); err != nil || said.Message != strings.ToValidUTF8(why, "\ufffd") {
		t.Errorf("%q, %v", said.Message, err)
	}
}

// TestSmallBody: a body that does not come ends the wait for it, and one that
// does leaves the connection as it was.
func TestSmallBody(t *testing.T) {
	limit := make(chan time.Duration, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := smallBody(w, r, <-limit)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body)
	}))
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	for _, ask := range []struct {
		limit      time.Duration
		body, want string
	}{{time.Minute, "abcd", "abcd"}, {time.Minute, "efgh", "efgh"}, {10 * time.Millisecond, "ij", "i/o timeout\n"}} {
		limit <- ask.limit
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n%s", ask.body)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || !strings.HasSuffix(string(out), ask.want) {
			t.Errorf("%q is answered by %q, %v", ask.body, out, err)
		}
	}
}

// TestOldHijack: without Upgrade the connection is taken over after a 200.
func TestOldHijack(t *testing.T) {
	socket, _ := serve(t)
	cli := dial(t, socket)
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := `{"Image":"busybox","OpenStdin":true,"Tty":true}`
	fmt.Fprintf(c, "POST /v1.24/containers/create?name=old HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 201 {
		t.Fatalf("%v, %v", res, err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	// The input goes with the request, so that net/http has buffered it.
	fmt.Fprint(c, "POST /v1.24/containers/old/attach?stdin=1&stdout=1&stream=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\nearly input")
	attached, err := http.ReadResponse(br, nil)
	if err == nil {
		defer attached.Body.Close()
	}
	if err != nil || attached.StatusCode != 200 || attached.Header.Get("Content-Type") != rawStream {
		t.Fatalf("%v, %v", attached, err)
	}
	if _, err := cli.ContainerStart(t.Context(), "old", client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.UnixConn).CloseWrite()
	out, err := io.ReadAll(br)
	if err != nil || string(out) != "early input" {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestShutdown: streams end with the server, and nothing is left of them.
func TestShutdown(t *testing.T) {
	before := runtime.NumGoroutine()
	s, w := newFake()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, 5*time.Minute) }()
	w.byRef["x"] = &proc{done: make(chan struct{}), c: moss.Container{ID: "x"}}
	w.byRef["tty"] = &proc{done: make(chan struct{}), c: moss.Container{ID: "tty", Config: moss.ContainerConfig{TTY: true}}}
	var conns []net.Conn
	var readers []*bufio.Reader
	for _, rq := range []string{
		"GET /events", "POST /containers/x/wait?condition=next-exit", "GET /containers/x/logs?follow=1&stdout=1&stderr=1", "POST /containers/x/attach?stream=1&stdout=1",
		"POST /containers/x/wait", // docker's wait, which would print any code
		"GET /containers/tty/logs?follow=1&stdout=1",
	} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: d\r\n\r\n", rq)
		br := bufio.NewReader(c)
		if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
			t.Fatalf("%s: %q, %v", rq, line, err)
		}
		readers = append(readers, br)
	}
	start := time.Now()
	cancel()
	for i, br := range readers {
		said, _ := io.ReadAll(br)
		_ = conns[i].Close() // as clients do at the end
		if i == 4 && strings.Contains(string(said), "StatusCode") {
			t.Errorf("docker's wait is told %q for how the container ended", said)
		}
		if why := errClosing.Error(); (i%2 == 1 || i == 2) && !strings.Contains(string(said), why) {
			t.Errorf("who waits, is attached or follows a log gets %q, want it to say that %s", said, why)
		}
		if i == 2 && !strings.Contains(string(said), "\x03\x00\x00\x00") {
			t.Errorf("who follows a log gets %q, not an error", said)
		}
	}
	if took := time.Since(start); took > 4*time.Minute {
		t.Errorf("the streams ended after %v", took)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	for range 6000 {
		if runtime.NumGoroutine() <= before+1 {
			return
		}
		time.Sleep(10 * time.Millisecond) // goroutines end on their own time
	}
	buf := make([]byte, 1<<16)
	t.Errorf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
}

func TestDetachKeys(t *testing.T) {
	for in, want := range map[string]string{
		"": "\x10\x11", "a": "a", "ctrl-a,z": "\x01z", "ctrl-@,ctrl-[,ctrl-_": "\x00\x1b\x1f",
		"ctrl-A": "!", "ab": "!", ",": "!", "ctrl-": "!", "é": "!",
	} {
		got, err := parseDetachKeys(in)
		if want == "!" && err == nil || want != "!" && (err != nil || string(got) != want) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestSignals(t *testing.T) {
	for in, want := range map[string]int{"9": 9, "KILL": 9, "sigterm": 15, "SIGRTMIN+3": 37, "RTMAX-1": 63, "RTMIN": 34, "0": 0, "65": 0, "": 0, "RTMIN-1": 0, "RTMINx": 0, "-1": 0} {
		got, err := parseSignal(in)
		if int(got) != want || (want == 0) != (err != nil) {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}

func TestMoments(t *testing.T) {
	for in, want := range map[string]time.Time{"": {}, "0": {}, "0.0": {}, "5": time.Unix(5, 0), "5.5": time.Unix(5, 5e8), "-3": time.Unix(-3, 0), "1700000000.000000001": time.Unix(1700000000, 1)} {
		if got, err := parseMoment("since", in); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"x", "1.", "1.-5", "1.0000000001", "1e3"} {
		if _, err := parseMoment("since", in); err == nil {
			t.Errorf("%q is taken", in)
		}
	}
}

func TestNegotiate(t *testing.T) {
	for in, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "application/jsonl, application/x-ndjson;q=0.9": "application/jsonl",
		"application/x-ndjson;q=0.5, application/json-seq;q=0.7": "application/json-seq",
	} {
		if got := negotiate([]string{in}); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
}

func TestOldEvent(t *testing.T) {
	e := moss.Event{Type: moss.ContainerEvent, Action: "die", ActorID: "c", Time: time.Unix(1, 2), Attributes: map[string]string{"image": "i"}}
	b, err := json.Marshal(encodeEvent(e, v1(51)))
	want := `{"status":"die","id":"c","from":"i","Type":"container","Action":"die","Actor":{"ID":"c","Attributes":{"image":"i"}},"scope":"local","time":1,"timeNano":1000000002}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v", b, err)
	}
}
