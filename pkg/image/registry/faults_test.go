package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containers/image/v5/docker"
	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/registry"
)

func TestRetryable(t *testing.T) {
	for _, c := range []struct {
		err   error
		after time.Duration
		ok    bool
	}{
		{nil, 0, false},
		{context.Canceled, 0, false},
		{io.ErrUnexpectedEOF, 0, true},
		{fmt.Errorf("x: %w", syscall.ECONNRESET), 0, true},
		{net.ErrClosed, 0, true},
		{syscall.ENOSPC, 0, false},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, 0, false},
		{&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, 0, false},
		{os.NewSyscallError("connect", syscall.ENETUNREACH), 0, true},
		{&url.Error{Op: "Get", URL: "x", Err: errors.New("x")}, 0, true},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, 0, true},
		{&net.DNSError{IsNotFound: true}, 0, false},
		{&net.DNSError{IsTemporary: true}, 0, true},
		{tls.RecordHeaderError{}, 0, false},
		{http.ErrSchemeMismatch, 0, false},
		{docker.UnexpectedHTTPStatusError{StatusCode: 500}, 0, true},
		{docker.UnexpectedHTTPStatusError{StatusCode: 503}, 0, true},
		{docker.UnexpectedHTTPStatusError{StatusCode: 501}, 0, false},
		{docker.UnexpectedHTTPStatusError{StatusCode: 404}, 0, false},
		{docker.ErrTooManyRequests, 0, false},
		{broken(t.Context(), errors.New(`StatusCode: 429, ""`), "h"), 0, false},
		{broken(t.Context(), errors.New(`StatusCode: 408, ""`), "h"), 0, true},
		{docker.ErrUnauthorizedForCredentials{Err: errors.New("x")}, 0, false},
		{errcode.ErrorCodeDenied.WithMessage("x"), 0, false},
		{errcode.ErrorCodeTooManyRequests, 0, false},
		{errcode.Errors{v2.ErrorCodeManifestUnknown}, 0, false},
		{&StatusError{Status: 503, After: time.Second}, time.Second, true},
		{moss.Errorf(moss.Unavailable, "%w", io.ErrUnexpectedEOF), 0, true},
		{moss.Errorf(moss.Invalid, "wrong digest"), 0, false},
	} {
		if after, ok := Retryable(c.err); after != c.after || ok != c.ok {
			t.Errorf("%v: %v %v", c.err, after, ok)
		}
	}
}

// What the library says of a registry and its mirrors, and in numbers alone, is put in order.
func TestWording(t *testing.T) {
	own := fmt.Errorf("ping: %w", io.ErrUnexpectedEOF)
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("(Mirrors also failed: [a/b:1: no): yes]\n[c/b:1: gone]): docker.io/b:1: %w", own), "ping: unexpected EOF; its mirrors failed as well: [a/b:1: no): yes], [c/b:1: gone]"},
		{fmt.Errorf("fetching blob: %w", errors.New(`StatusCode: 404, ""`)), "fetching blob: the registry answers 404 Not Found"},
		{errors.New(`StatusCode: 404, "with \"words\""`), `StatusCode: 404, "with \"words\""`},
		{own, "ping: unexpected EOF"},
	} {
		if got := broken(t.Context(), c.err, "h"); got.Error() != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// One blob through a proxy that breaks it off, ends it early or does not know
// ranges comes whole; one that is broken off without progress does not for ever.
func TestResume(t *testing.T) {
	r := registry.New(t, registry.Options{})
	p := registry.NewProxy(t, r)
	c := client(t, Options{})
	made := r.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 3<<20)})
	blob := "/blobs/" + made.Layers[0].Digest.String()
	for name, f := range map[string]registry.Fault{
		"dropped":          {Times: 1, DropAfter: 1 << 20},
		"dropped at once":  {Times: 1, DropAfter: 1},
		"reset":            {Times: 1, DropAfter: 1 << 20, Reset: true},
		"dropped twice":    {Times: 2, DropAfter: 1100000},
		"ended early":      {Times: 1, Truncate: 1 << 20},
		"ended very early": {Times: 2, Truncate: 10},
	} {
		p.Heal()
		f.Path = blob
		p.Fault(f)
		if err := readAll(t.Context(), c, p.Host+"/a:v1", moss.Credentials{}, made); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.Heal()
	p.Fault(registry.Fault{Path: blob, Truncate: 10})
	err := readAll(t.Context(), c, p.Host+"/a:v1", moss.Credentials{}, made)
	wantClass(t, err, moss.Unavailable, "unexpected EOF")
	if n := p.Count("GET", blob); n != 1+reopens {
		t.Errorf("asked %d times", n)
	}
	// What is resumed is asked for from where it broke.
	p.Heal()
	p.Fault(registry.Fault{Path: blob, Times: 1, DropAfter: 1 << 20})
	if err := readAll(t.Context(), c, p.Host+"/a:v1", moss.Credentials{}, made); err != nil {
		t.Error(err)
	}
	if seen := p.Seen("GET", blob); len(seen) != 2 || seen[1].Range != "bytes=1048576-" {
		t.Errorf("%+v", seen)
	}
	p.Heal()
	p.Fault(registry.Fault{Path: blob, Corrupt: 1000})
	if err := readAll(t.Context(), c, p.Host+"/a:v1", moss.Credentials{}, made); err == nil || err.Error() != "another blob" {
		t.Errorf("a corrupt blob: %v", err)
	}
}

func TestStatuses(t *testing.T) {
	r := registry.New(t, registry.Options{})
	p := registry.NewProxy(t, r)
	c := client(t, Options{})
	made := r.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	for status, again := range map[int]bool{500: true, 502: true, 503: true, 504: true, 401: false, 403: false, 404: false} {
		p.Heal()
		p.Fault(registry.Fault{Path: "/manifests/", Status: status})
		err := readAll(t.Context(), c, p.Host+"/a:v1", moss.Credentials{}, made)
		if _, ok := Retryable(err); err == nil || ok != again {
			t.Errorf("%d: %v, again %v", status, err, ok)
		}
	}
	p.Heal()
	p.Fault(registry.Fault{Path: "/blobs/", Status: 429, RetryAfter: "1", Times: 1})
	start := time.Now()
	if err := readAll(t.Context(), c, p.Host+"/a:v1", moss.Credentials{}, made); err != nil || time.Since(start) < time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p.Fault(registry.Fault{Path: "/blobs/", Delay: time.Hour})
	if err := readAll(ctx, c, p.Host+"/a:v1", moss.Credentials{}, made); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// docker.io's mirrors are asked first; docker.io itself is not reachable here, so it is
// a name of registries.conf that stands for it where the fallback is seen.
func TestMirrors(t *testing.T) {
	upstream, mirror := registry.New(t, registry.Options{}), registry.New(t, registry.Options{})
	image := registry.Image{Layers: registry.Layers(1, 10)}
	made := mirror.Remote().Push(t, "library/box", "v1", image)
	c := client(t, Options{Mirrors: []string{"http://" + mirror.Host}})
	if err := readAll(t.Context(), c, "docker.io/library/box:v1", moss.Credentials{}, made); err != nil {
		t.Error(err)
	}
	user := t.TempDir()
	write(t, user+"/containers/registries.conf", `unqualified-search-registries = ["example.com"]`)
	write(t, user+"/containers/registries.conf.d/here.conf", fmt.Sprintf(`
[[registry]]
prefix = "hub.example.com"
location = %q
insecure = true
[[registry.mirror]]
location = %q
[[registry]]
prefix = "bad.example.com"
location = "bad.example.com"
blocked = true
[[registry]]
prefix = "*.wild.example.com"
location = %q
insecure = true
`, upstream.Host, mirror.Host+"/library", upstream.Host))
	c = client(t, Options{ConfigDir: user, Mirrors: []string{"http://" + mirror.Host}})
	only := upstream.Remote().Push(t, "only", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	for ref, want := range map[string]registry.Made{
		"hub.example.com/box:v1":     made, // the mirror's, below its path
		"hub.example.com/only:v1":    only, // the mirror does not have it
		"x.wild.example.com/only:v1": only,
		"docker.io/library/box:v1":   made,
	} {
		if err := readAll(t.Context(), c, ref, moss.Credentials{}, want); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	_, err := c.Open(t.Context(), "bad.example.com/x:v1", moss.Credentials{})
	wantClass(t, err, moss.Forbidden, user+"/containers/registries.conf")
	// A mirror that has the manifest and not the layer.
	both := upstream.Remote().Push(t, "both", "v1", registry.Image{Layers: []registry.Layer{{Size: 10, Seed: 5}}})
	half := mirror.Remote().Push(t, "library/both", "v1", registry.Image{Layers: []registry.Layer{{Size: 10, Seed: 5}}})
	if _, _, err := mirror.Remote().Do(http.MethodDelete, "/v2/library/both/blobs/"+half.Layers[0].Digest.String(), "", nil); err != nil {
		t.Fatal(err)
	}
	if err := readAll(t.Context(), c, "hub.example.com/both:v1", moss.Credentials{}, both); err != nil {
		t.Errorf("with half a mirror: %v", err)
	}
	mirror.Stop()
	if err := readAll(t.Context(), c, "hub.example.com/only:v1", moss.Credentials{}, only); err != nil {
		t.Errorf("without the mirror: %v", err)
	}
	write(t, user+"/containers/registries.conf", "nonsense")
	if _, err := New(Options{ConfigDir: user, TempDir: t.TempDir()}); moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), user) {
		t.Errorf("%v", err)
	}
}

// Mirrors do not get the credentials for what they mirror.
func TestMirrorsGetNoPasswords(t *testing.T) {
	r := registry.New(t, registry.Options{Users: map[string]string{"alice": "secret"}})
	p := registry.NewProxy(t, r)
	user := t.TempDir()
	write(t, user+"/containers/registries.conf", fmt.Sprintf("[[registry]]\nprefix = \"hub.example.com\"\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = %q\n", p.Host))
	c := client(t, Options{ConfigDir: user})
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	if _, err := c.Open(t.Context(), "hub.example.com/library/x:v1", moss.Credentials{Username: "alice", Password: "secret"}); err == nil {
		t.Error("opened what is not there")
	}
	if p.Count("", "/library/x/") == 0 {
		t.Fatal("the mirror was not asked")
	}
	for _, req := range p.Seen("", "") {
		if strings.HasPrefix(req.Authorization, "Basic ") && req.Authorization != "Basic Og==" {
			t.Errorf("the mirror got %q", req.Authorization)
		}
	}
}

func TestForeignURLs(t *testing.T) {
	r := registry.New(t, registry.Options{})
	c := client(t, Options{})
	layer := registry.Layer{Size: 100, Seed: 7}
	body, err := layer.Packed()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var got http.Header
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = w.Write(body)
	})}
	go server.Serve(l)
	defer server.Close()
	layer.URL = "http://" + l.Addr().String() + "/layer"
	made := r.Remote().Push(t, "win", "v1", registry.Image{Docker: true, Layers: []registry.Layer{layer}})
	if made.Layers[0].Digest != digest.FromBytes(body) {
		t.Fatal("the layer is not what it was")
	}
	if err := readAll(t.Context(), c, r.Host+"/win:v1", moss.Credentials{Username: "a", Password: "b"}, made); err != nil {
		t.Error(err)
	}
	if got.Get("Authorization") != "" {
		t.Error("a foreign server got credentials")
	}
}
