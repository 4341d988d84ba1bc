package plugins

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// dirs are the places of a test's plugins; a socket's path must be short.
type dirs struct{ sockets, specs string }

func newRegistry(t *testing.T) (*Registry, dirs) {
	t.Helper()
	top, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	d := dirs{filepath.Join(top, "s"), filepath.Join(top, "c")}
	for _, dir := range []string{d.sockets, d.specs} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return New(Options{Sockets: []string{filepath.Join(top, "none"), d.sockets}, Specs: []string{d.specs}, Log: slog.New(slog.DiscardHandler)}), d
}

// serve makes a plugin that implements a kind, at a socket.
func serve(t *testing.T, path string, kinds []string, methods map[string]http.HandlerFunc) *httptest.Server {
	t.Helper()
	return listen(t, path, handler(kinds, methods))
}

func listen(t *testing.T, path string, h http.Handler) *httptest.Server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func handler(kinds []string, methods map[string]http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(manifest{kinds})
	})
	for name, f := range methods {
		mux.HandleFunc("POST /"+name, f)
	}
	return mux
}

type words struct{ Text string }

// echo answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(w, r.Body)
}

func callOf(name, method string, out any) moss.PluginCall {
	return moss.PluginCall{Plugin: name, Kind: "Talk", Method: method, In: words{"hello"}, Out: out, Timeout: time.Minute}
}

func TestCall(t *testing.T) {
	r, d := newRegistry(t)
	var mime string
	serve(t, filepath.Join(d.sockets, "one.sock"), []string{"Other", "Talk"}, map[string]http.HandlerFunc{
		"Talk.Echo": func(w http.ResponseWriter, req *http.Request) { mime = req.Header.Get("Accept"); echo(w, req) },
	})
	var out words
	if err := r.Call(t.Context(), callOf("one", "Talk.Echo", &out)); err != nil || out.Text != "hello" {
		t.Fatalf("%v %v", out, err)
	}
	if mime != "application/vnd.docker.plugins.v1.2+json" {
		t.Errorf("it accepts %q", mime)
	}
	if err := r.Call(t.Context(), callOf("one", "Talk.Echo", nil)); err != nil {
		t.Error(err)
	}
	if err := r.Call(t.Context(), callOf("one", "Talk.Nosuch", &out)); moss.ClassOf(err) != moss.NotImplemented || err == nil {
		t.Errorf("a method that is not there: %v", err)
	}
	for _, name := range []string{"nosuch", "../one", "", "a/b", "s/../one"} {
		if err := r.Call(t.Context(), callOf(name, "Talk.Echo", &out)); moss.ClassOf(err) != moss.NotFound || err == nil || !strings.Contains(err.Error(), "not found") {
			t.Errorf("plugin %q: %v", name, err)
		}
	}
	c := callOf("one", "Talk.Echo", &out)
	c.Kind = "Sing"
	if err := r.Call(t.Context(), c); err == nil || err.Error() != `Plugin does not implement the requested driver: plugin="one", requested implementation="Sing"` {
		t.Errorf("a kind that it is not: %v", err)
	}
}

func TestFind(t *testing.T) {
	r, d := newRegistry(t)
	sub := filepath.Join(d.sockets, "deep")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	talk := map[string]http.HandlerFunc{"Talk.Echo": echo}
	serve(t, filepath.Join(sub, "deep.sock"), []string{"Talk"}, talk)
	hidden := filepath.Join(filepath.Dir(d.sockets), "x.sock")
	serve(t, hidden, []string{"Talk"}, talk)
	tcp := httptest.NewServer(handler([]string{"Talk"}, talk))
	t.Cleanup(tcp.Close)
	for name, text := range map[string]string{
		"byspec.spec":   "unix://" + hidden + "\n",
		"bytcp.spec":    "tcp://" + tcp.Listener.Addr().String(),
		"byjson.json":   `{"Name": "byjson", "Addr": "http://` + tcp.Listener.Addr().String() + `"}`,
		"bad1.spec":     "nonsense",
		"bad2.json":     "{",
		"bad3.spec":     "file:///etc/passwd",
		"bad4.spec":     strings.Repeat("x", maxSpec+1),
		"ignored.txt":   "unix://" + hidden,
		"bad name.spec": "unix://" + hidden,
	} {
		if err := os.WriteFile(filepath.Join(d.specs, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.sockets, "file.sock"), nil, 0o600); err != nil { // no socket
		t.Fatal(err)
	}
	for _, name := range []string{"deep", "byspec", "bytcp", "byjson"} {
		var out words
		if err := r.Call(t.Context(), callOf(name, "Talk.Echo", &out)); err != nil || out.Text != "hello" {
			t.Errorf("%s: %v %v", name, out, err)
		}
	}
	for _, name := range []string{"bad1", "bad2", "bad3", "bad4"} {
		if err := r.Call(t.Context(), callOf(name, "Talk.Echo", nil)); moss.ClassOf(err) != moss.Invalid || err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := []string{"bad1", "bad2", "bad3", "bad4", "byjson", "byspec", "bytcp", "deep", "file"}
	if names := r.Names(); !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	names, dead := r.Having(t.Context(), "Talk")
	if !slices.Equal(names, []string{"byjson", "byspec", "bytcp", "deep"}) || len(dead) != 5 {
		t.Errorf("%v %v", names, dead)
	}
}

// TestLies has plugins whose answers are none.
func TestLies(t *testing.T) {
	r, d := newRegistry(t)
	long := strings.Repeat("0123456789", 1<<20)
	serve(t, filepath.Join(d.sockets, "liar.sock"), []string{"Talk"}, map[string]http.HandlerFunc{
		"Talk.Html": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
		},
		"Talk.Plain": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, `{"Text":"fine"} and more`)
		},
		"Talk.Type":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Text":[1,2]}`) },
		"Talk.Empty": func(http.ResponseWriter, *http.Request) {},
		"Talk.Long":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Text":"`+long+`"}`) },
		"Talk.Cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{`)
		},
		"Talk.Away": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
		"Talk.Err": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, `{"Err":"no room"}`)
		},
		"Talk.Old": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "bare words\n")
		},
		"Talk.Paint": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, `{"Err":"\u001b[31mred\u009b0m"}`)
		},
		"Talk.Shout": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "\xff"+long)
		},
	})
	for method, want := range map[string]struct {
		class moss.Class
		text  string
	}{
		"Html": {moss.Unavailable, `content type is "text/html"`}, "Type": {moss.Unavailable, "no such JSON"}, "Empty": {moss.Unavailable, "EOF"},
		"Long": {moss.Unavailable, "more than 4194304 bytes"}, "Cut": {moss.Unavailable, "does not answer"}, "Away": {moss.Internal, "Talk.Away"},
		"Err": {moss.Internal, "Talk.Err: no room"}, "Old": {moss.Internal, "Talk.Old: bare words"}, "Paint": {moss.Internal, "Talk.Paint: \uFFFD[31mred\uFFFD0m"}, "Shout": {moss.Internal, "Talk.Shout: \uFFFD0123"},
	} {
		var out words
		err := r.Call(t.Context(), callOf("liar", "Talk."+method, &out))
		if err == nil || moss.ClassOf(err) != want.class || !strings.Contains(err.Error(), want.text) || len(err.Error()) > 2<<10 {
			t.Errorf("%s: %v: %.200v", method, moss.ClassOf(err), err)
		}
	}
	var out words
	if err := r.Call(t.Context(), callOf("liar", "Talk.Plain", &out)); err != nil || out.Text != "fine" {
		t.Errorf("JSON under another name: %v %v", out, err)
	}

	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(d.sockets, "noise.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
			_ = c.Close()
		}
	}()
	if err := r.Call(t.Context(), callOf("noise", "Talk.Echo", nil)); moss.ClassOf(err) != moss.Unavailable || err == nil {
		t.Errorf("no HTTP at all: %v", err)
	}
}

// TestHang has a plugin that never answers: nobody waits for longer than asked
// for, and one that waits holds up no other.
func TestHang(t *testing.T) {
	r, d := newRegistry(t)
	stop := make(chan struct{})
	var asked atomic.Int32
	s := serve(t, filepath.Join(d.sockets, "slow.sock"), []string{"Talk"}, map[string]http.HandlerFunc{
		"Talk.Echo": func(http.ResponseWriter, *http.Request) { asked.Add(1); <-stop },
	})
	mute := listen(t, filepath.Join(d.sockets, "mute.sock"), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1); <-stop }))
	t.Cleanup(func() { close(stop); s.Close(); mute.Close() })

	for _, name := range []string{"slow", "mute"} {
		asked.Store(0)
		c := callOf(name, "Talk.Echo", nil)
		c.Timeout, c.Patience = 50*time.Millisecond, time.Hour
		err := r.Call(t.Context(), c)
		if moss.ClassOf(err) != moss.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		if n := asked.Load(); n > 1 { // none where the machine was too busy to get that far
			t.Errorf("%s was asked %d times: it may have done what it was asked to", name, n)
		}
	}
	asked.Store(0)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		names, dead := r.Having(ctx, "Talk")
		cancel()
		if slices.Contains(names, "mute") || dead["mute"] == nil {
			t.Errorf("%v %v", names, dead)
		}
	}
	if n := asked.Load(); n > 1 {
		t.Errorf("a plugin that hangs was asked %d times what it is", n)
	}
}

// TestComesAndGoes has a plugin that dies, comes back as another, and one that is
// late.
func TestComesAndGoes(t *testing.T) {
	r, d := newRegistry(t)
	path := filepath.Join(d.sockets, "one.sock")
	s := serve(t, path, []string{"Talk"}, map[string]http.HandlerFunc{"Talk.Echo": echo})
	if err := r.Call(t.Context(), callOf("one", "Talk.Echo", nil)); err != nil {
		t.Fatal(err)
	}
	s.Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	s.Close()
	if err := r.Call(t.Context(), callOf("one", "Talk.Echo", nil)); moss.ClassOf(err) != moss.Unavailable || err == nil {
		t.Errorf("a dead one: %v", err)
	}
	if _, dead := r.Having(t.Context(), "Talk"); dead["one"] == nil {
		t.Error("the dead one is not told of")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.Call(t.Context(), callOf("one", "Talk.Echo", nil)); moss.ClassOf(err) != moss.NotFound || err == nil {
		t.Errorf("one that went: %v", err)
	}
	serve(t, path, []string{"Sing"}, nil)
	if err := r.Call(t.Context(), callOf("one", "Talk.Echo", nil)); moss.ClassOf(err) != moss.Invalid || err == nil {
		t.Errorf("another in its place: %v", err)
	}

	done := make(chan error, 1)
	go func() {
		c := callOf("late", "Talk.Echo", nil)
		c.Patience = time.Minute
		done <- r.Call(t.Context(), c)
	}()
	serve(t, filepath.Join(d.sockets, "late.sock"), []string{"Talk"}, map[string]http.HandlerFunc{"Talk.Echo": echo})
	if err := <-done; err != nil {
		t.Errorf("a late one: %v", err)
	}
}

func TestPatienceEnds(t *testing.T) {
	r, _ := newRegistry(t)
	c := callOf("nosuch", "Talk.Echo", nil)
	c.Patience = 250 * time.Millisecond
	if err := r.Call(t.Context(), c); moss.ClassOf(err) != moss.NotFound || err == nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c.Patience = time.Hour
	if err := r.Call(ctx, c); err == nil {
		t.Error("it was found")
	}
}

func TestStream(t *testing.T) {
	r, d := newRegistry(t)
	more := make(chan struct{})
	serve(t, filepath.Join(d.sockets, "one.sock"), []string{"Talk"}, map[string]http.HandlerFunc{
		"Talk.Read": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-more
			_, _ = io.WriteString(w, "last")
		},
	})
	body, err := r.Stream(t.Context(), callOf("one", "Talk.Read", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(body, buf); err != nil || string(buf) != "first" {
		t.Fatalf("%q %v", buf, err)
	}
	close(more)
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "last" {
		t.Errorf("%q %v", rest, err)
	}
}

// TestTLS has a plugin that wants a certificate and shows one.
func TestTLS(t *testing.T) {
	r, d := newRegistry(t)
	ca, key, pair := certificate(t, d.specs)
	pool := x509.NewCertPool()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool.AppendCertsFromPEM(text)
	s := httptest.NewUnstartedServer(handler([]string{"Talk"}, map[string]http.HandlerFunc{"Talk.Echo": echo}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.StartTLS()
	t.Cleanup(s.Close)
	addr := "tcp://" + s.Listener.Addr().String()
	for name, c := range map[string]struct {
		tls  map[string]any
		want string // part of the error
	}{
		"good":     {map[string]any{"CAFile": ca, "CertFile": ca, "KeyFile": key}, ""},
		"trusting": {map[string]any{"CertFile": ca, "KeyFile": key}, ""},
		"insecure": {map[string]any{"InsecureSkipVerify": true, "CertFile": ca, "KeyFile": key}, ""},
		"nocert":   {map[string]any{"CAFile": ca}, "certificate"},
		"noca":     {map[string]any{"CAFile": "/nosuch.pem"}, "/nosuch.pem"},
		"badca":    {map[string]any{"CAFile": key}, "no certificate in"},
		"plain":    {nil, ""},
	} {
		spec, err := json.Marshal(map[string]any{"Name": name, "Addr": addr, "TLSConfig": c.tls})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.specs, name+".json"), spec, 0o600); err != nil {
			t.Fatal(err)
		}
		var out words
		err = r.Call(t.Context(), callOf(name, "Talk.Echo", &out))
		switch {
		case c.want == "" && name != "plain":
			if err != nil || out.Text != "hello" {
				t.Errorf("%s: %v %v", name, out, err)
			}
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certificate makes one for 127.0.0.1 that is its own authority.
func certificate(t *testing.T, dir string) (cert, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "plugin"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair, err = tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}
