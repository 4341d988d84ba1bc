package rootless

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// api serves h as a holder's API and returns the state directory. What the real
// one says is in rootless/holder's tests.
func api(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "moss") // a socket's name has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, APISockFile))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close() })
	return dir
}

func spec(host string) PortSpec {
	s := PortSpec{Proto: "tcp", HostPort: 8080, ChildIP: netip.MustParseAddr("10.88.0.2"), ChildPort: 80}
	if host != "" {
		s.HostIP = netip.MustParseAddr(host)
	}
	return s
}

func TestAddSends(t *testing.T) {
	for host, want := range map[string]string{
		"":          `{"proto":"tcp","parentPort":8080,"childPort":80,"childIP":"10.88.0.2"}`,
		"127.0.0.1": `{"proto":"tcp4","parentIP":"127.0.0.1","parentPort":8080,"childPort":80,"childIP":"10.88.0.2"}`,
		"0.0.0.0":   `{"proto":"tcp4","parentIP":"0.0.0.0","parentPort":8080,"childPort":80,"childIP":"10.88.0.2"}`,
		"::":        `{"proto":"tcp6","parentIP":"::","parentPort":8080,"childPort":80,"childIP":"10.88.0.2"}`,
	} {
		var got string
		dir := api(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == "/v1/ports" {
				var v json.RawMessage
				if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
					t.Error(err)
				}
				got = string(v)
				w.WriteHeader(http.StatusCreated)
				_, _ = w.Write([]byte(`{"id":7,"spec":` + got + `}`))
				return
			}
			_, _ = w.Write([]byte(`[{"id":7,"spec":` + got + `}]`))
		})
		p := NewPorts(dir)
		id, err := p.Add(t.Context(), spec(host))
		if id != 7 || err != nil || got != want {
			t.Errorf("%q: %d, %v, sent %s, want %s", host, id, err, got, want)
		}
		list, err := p.List(t.Context())
		if err != nil || len(list) != 1 || list[0] != (Port{7, spec(host)}) {
			t.Errorf("%q: listed %+v, %v", host, list, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for text, want := range map[string]error{
		"listen tcp4 127.0.0.1:8080: bind: address already in use": ErrPortInUse,
		"conflict with ID 3": ErrPortInUse,
		"cannot expose privileged port 80, you can add … : bind: permission denied": ErrPortPrivileged,
		"listen tcp4 203.0.113.9:1: bind: cannot assign requested address":          ErrPortAddress,
		"no such thing": nil,
	} {
		dir := api(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
		})
		_, err := NewPorts(dir).Add(t.Context(), spec("127.0.0.1"))
		pe, ok := errors.AsType[*PortError](err)
		if !ok || !errors.Is(pe.Reason, want) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), "127.0.0.1:8080/tcp") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAddRefusesItself(t *testing.T) {
	p := NewPorts(t.TempDir()) // no one is asked
	s := spec("")
	s.Proto = "sctp"
	if _, err := p.Add(t.Context(), s); !errors.Is(err, ErrPortProto) {
		t.Error(err)
	}
	s = spec("")
	s.ChildIP = netip.Addr{}
	if _, err := p.Add(t.Context(), s); err == nil || errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
}

func TestNoHolder(t *testing.T) {
	dir := t.TempDir()
	p := NewPorts(dir)
	_, add := p.Add(t.Context(), spec(""))
	_, list := p.List(t.Context())
	_, info := ReadInfo(dir)
	for name, err := range map[string]error{
		"add": add, "list": list, "remove": p.Remove(t.Context(), 1), "ping": p.Ping(t.Context()), "info": info,
	} {
		if !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCanceled(t *testing.T) {
	release := make(chan struct{})
	dir := api(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewPorts(dir).Remove(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
