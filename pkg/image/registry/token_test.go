package registry

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/registry"
)

// tokens stands before a registry and lets in who shows a token that it gave
// (docker's Token Authentication Specification).
type tokens struct {
	host string

	mu    sync.Mutex
	given map[string][]string // token to scopes
	asked []url.Values
}

func newTokens(t *testing.T, r *registry.Registry) *tokens {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &tokens{host: l.Addr().String(), given: map[string][]string{}}
	to := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: r.Host})
		p.Out.Header.Del("Authorization")
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("/token", k.token)
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		if !k.allows(req) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="tests"`, k.host))
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`))
			return
		}
		to.ServeHTTP(w, req)
	})
	server := &http.Server{Handler: mux}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return k
}

func (k *tokens) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, r.Form)
	name, pass, basic := r.BasicAuth()
	switch {
	case r.Form.Get("service") != "tests":
		w.WriteHeader(http.StatusBadRequest)
		return
	case basic && name == "alice" && pass == "secret":
	case r.Method == http.MethodPost && r.Form.Get("grant_type") == "refresh_token" && r.Form.Get("refresh_token") == "identity":
	default:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"details":"incorrect username or password"}`))
		return
	}
	token := fmt.Sprint("token-", len(k.given))
	k.given[token] = strings.Fields(strings.Join(r.Form["scope"], " "))
	answer := map[string]string{"access_token": token}
	if r.Form.Get("offline_token") == "true" {
		answer["refresh_token"] = "identity"
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (k *tokens) allows(r *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	scopes, ok := k.given[token]
	if !ok && token != "registry-token" {
		return false
	}
	// A mount needs the other repository as well.
	if from := r.URL.Query().Get("from"); from != "" && !slices.Contains(scopes, "repository:"+from+":pull") {
		return false
	}
	return true
}

func TestTokens(t *testing.T) {
	r := registry.New(t, registry.Options{})
	made := r.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	k := newTokens(t, r)
	c := client(t, Options{})
	password := moss.Credentials{Username: "alice", Password: "secret", ServerAddress: k.host}
	login, err := c.Login(t.Context(), password)
	if err != nil || login.IdentityToken != "identity" || login.Status != "Login Succeeded" {
		t.Errorf("%+v %v", login, err)
	}
	bad := password
	bad.Password = "wrong"
	_, err = c.Login(t.Context(), bad)
	wantClass(t, err, moss.Unauthorized, "unauthorized: incorrect username or password")
	identity := moss.Credentials{Username: "alice", IdentityToken: "identity", ServerAddress: k.host}
	if login, err := c.Login(t.Context(), identity); err != nil || login.IdentityToken != "identity" {
		t.Errorf("%+v %v", login, err)
	}
	for name, cred := range map[string]moss.Credentials{"password": password, "identity": identity, "registry": {RegistryToken: "registry-token"}} {
		if err := readAll(t.Context(), c, k.host+"/a:v1", cred, made); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantClass(t, readAll(t.Context(), c, k.host+"/a:v1", bad, made), moss.Unauthorized, "incorrect username or password")
	to, err := c.Create(t.Context(), k.host+"/b:v1", identity)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, ok, err := to.Mount(t.Context(), made.Layers[0].Digest, k.host+"/a"); !ok || err != nil {
		t.Errorf("mount: %v %v", ok, err)
	}
	last := k.asked[len(k.asked)-1]
	if got := strings.Join(last["scope"], " "); got != "repository:b:pull,push repository:a:pull" {
		t.Errorf("asked for %q", got)
	}
}
