package registry

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/registry"
)

// client has nothing of the machine's or the user's settings.
func client(t *testing.T, o Options) *Client {
	t.Helper()
	dir := t.TempDir()
	if o.ConfigDir == "" {
		o.ConfigDir = filepath.Join(dir, "config")
	}
	o.EtcDir, o.TempDir, o.UserAgent = filepath.Join(dir, "etc"), filepath.Join(dir, "tmp"), "moss-test"
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b))
}

// readAll opens an image and reads every layer, checking each.
func readAll(ctx context.Context, c *Client, ref string, cred moss.Credentials, made registry.Made) error {
	s, err := c.Open(ctx, ref, cred)
	if err != nil {
		return err
	}
	defer s.Close()
	b, _, err := s.Manifest(ctx, nil)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, made.Body) {
		return errors.New("another manifest")
	}
	for _, l := range made.Layers {
		r, _, err := s.Blob(ctx, l.Digest, l.Size, l.URLs)
		if err != nil {
			return err
		}
		d, err := digest.FromReader(r)
		r.Close()
		if err != nil {
			return err
		}
		if d != l.Digest {
			return errors.New("another blob")
		}
	}
	return nil
}

func wantClass(t *testing.T, err error, class moss.Class, words string) {
	t.Helper()
	if err == nil || moss.ClassOf(err) != class || !strings.Contains(err.Error(), words) {
		t.Errorf("%v (%v), want %v with %q", err, moss.ClassOf(err), class, words)
	}
}

func TestOpen(t *testing.T) {
	r := registry.New(t, registry.Options{})
	c := client(t, Options{})
	made := r.Remote().Push(t, "a/b", "v1", registry.Image{Layers: registry.Layers(2, 1<<16)})
	for _, ref := range []string{r.Host + "/a/b:v1", r.Host + "/a/b@" + made.Digest.String(), r.Host + "/a/b:no@" + made.Digest.String()} {
		if err := readAll(t.Context(), c, ref, moss.Credentials{}, made); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	_, err := c.Open(t.Context(), r.Host+"/a/b:v2", moss.Credentials{})
	wantClass(t, err, moss.NotFound, "manifest for "+r.Host+"/a/b:v2 not found: manifest unknown: manifest unknown")
	if _, again := Retryable(err); again {
		t.Error("what is not there is asked for again")
	}
	_, err = c.Tags(t.Context(), r.Host+"/no/such", moss.Credentials{})
	wantClass(t, err, moss.NotFound, "repository "+r.Host+"/no/such not found: name unknown")
	tags, err := c.Tags(t.Context(), r.Host+"/a/b", moss.Credentials{})
	if err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("%v %v", tags, err)
	}
	r.Stop()
	_, err = c.Open(t.Context(), r.Host+"/a/b:v1", moss.Credentials{})
	wantClass(t, err, moss.Unavailable, "connection refused")
	if _, again := Retryable(err); !again {
		t.Error("a registry that is down is not asked again")
	}
}

func TestWrongDigest(t *testing.T) {
	r := registry.New(t, registry.Options{})
	p := registry.NewProxy(t, r)
	c := client(t, Options{})
	made := r.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	p.Fault(registry.Fault{Path: "/manifests/", Corrupt: 30})
	err := readAll(t.Context(), c, p.Host+"/a@"+made.Digest.String(), moss.Credentials{}, made)
	wantClass(t, err, moss.Invalid, "manifest verification failed")
	if _, again := Retryable(err); again {
		t.Error("a wrong digest is asked for again")
	}
}

func TestPasswords(t *testing.T) {
	r := registry.New(t, registry.Options{Users: map[string]string{"alice": "secret"}})
	c := client(t, Options{})
	made := r.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	ref, good := r.Host+"/a:v1", moss.Credentials{Username: "alice", Password: "secret", ServerAddress: r.Host}
	bad := good
	bad.Password = "wrong"
	if err := readAll(t.Context(), c, ref, good, made); err != nil {
		t.Error(err)
	}
	wantClass(t, readAll(t.Context(), c, ref, bad, made), moss.Unauthorized, "unauthorized: authentication required")
	wantClass(t, readAll(t.Context(), c, ref, moss.Credentials{}, made), moss.Unauthorized, "unauthorized")
	login, err := c.Login(t.Context(), good)
	if err != nil || login.Status != "Login Succeeded" || login.IdentityToken != "" {
		t.Errorf("%+v %v", login, err)
	}
	_, err = c.Login(t.Context(), bad)
	wantClass(t, err, moss.Unauthorized, "login attempt to http://"+r.Host+"/v2/ failed with status: 401 Unauthorized")
	bad.ServerAddress = "http://[::1"
	_, err = c.Login(t.Context(), bad)
	wantClass(t, err, moss.Invalid, "unable to parse server address")
}

// A registry off loopback needs a certificate that a CA of ours signed; on
// loopback docker asks for none, so the name is what makes the difference.
func TestCertificates(t *testing.T) {
	r := registry.New(t, registry.Options{ClientTLS: true})
	cert, key, err := r.CA.Issue("me")
	if err != nil {
		t.Fatal(err)
	}
	made := r.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	etc := t.TempDir()
	c := client(t, Options{CertDirs: []string{filepath.Join(etc, "certs.d")}})
	c.now.Load().insecure.nets = nil // as if it were elsewhere
	ref := r.Host + "/a:v1"
	err = readAll(t.Context(), c, ref, moss.Credentials{}, made)
	wantClass(t, err, moss.Unavailable, "certs.d/"+r.Host+"/ca.crt")
	if _, again := Retryable(err); again {
		t.Error("an unknown CA is tried again")
	}
	dir := filepath.Join(etc, "certs.d", r.Host)
	copyFile(t, r.CA.Cert, filepath.Join(dir, "ca.crt"))
	err = readAll(t.Context(), c, ref, moss.Credentials{}, made)
	wantClass(t, err, moss.Unavailable, "client.cert and client.key into certs.d/"+r.Host)
	if _, again := Retryable(err); again {
		t.Error("a registry that wants a certificate is tried again")
	}
	copyFile(t, cert, filepath.Join(dir, "me.cert"))
	copyFile(t, key, filepath.Join(dir, "me.key"))
	if err := readAll(t.Context(), c, ref, moss.Credentials{}, made); err != nil {
		t.Error(err)
	}
	if _, err := c.Login(t.Context(), moss.Credentials{ServerAddress: r.Host}); err != nil {
		t.Error(err)
	}
	// The user's own docker directory, once ours is gone.
	if err := os.RemoveAll(etc); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(c.o.ConfigDir, "docker/certs.d", r.Host)
	for from, to := range map[string]string{r.CA.Cert: "ca.crt", cert: "me.cert", key: "me.key"} {
		copyFile(t, from, filepath.Join(dir, to))
	}
	if err := readAll(t.Context(), c, ref, moss.Credentials{}, made); err != nil {
		t.Error(err)
	}
}

func TestInsecure(t *testing.T) {
	r := registry.New(t, registry.Options{TLS: true})
	made := r.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	plain := registry.New(t, registry.Options{})
	other := plain.Remote().Push(t, "a", "v1", registry.Image{Layers: registry.Layers(1, 10)})
	for _, host := range []string{r.Host, plain.Host} {
		want := made
		if host == plain.Host {
			want = other
		}
		if err := readAll(t.Context(), client(t, Options{}), host+"/a:v1", moss.Credentials{}, want); err != nil {
			t.Errorf("on loopback: %v", err)
		}
		for setting, ok := range map[string]bool{"": false, "127.0.0.0/8": true, "10.0.0.0/8": false, host: true, "127.0.0.1:1": false} {
			c := client(t, Options{})
			var list []string
			if setting != "" {
				list = []string{setting}
			}
			in, err := parseInsecure(list)
			if err != nil {
				t.Fatal(err)
			}
			in.nets = in.nets[len(loopback):]
			if setting == "127.0.0.0/8" {
				in.nets = loopback
			}
			c.now.Load().insecure = in
			err = readAll(t.Context(), c, host+"/a:v1", moss.Credentials{}, want)
			if (err == nil) != ok {
				t.Errorf("%s with insecure %q: %v", host, setting, err)
			}
		}
	}
	for _, bad := range []string{"http://a", "a/b", ":5000", "a:"} {
		if _, err := New(Options{Insecure: []string{bad}, TempDir: t.TempDir()}); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestDistribution(t *testing.T) {
	r := registry.New(t, registry.Options{})
	c := client(t, Options{})
	index := r.Remote().PushIndex(t, "a", "multi", true,
		registry.Image{Platform: "linux/amd64", Layers: registry.Layers(1, 10)}, registry.Image{Platform: "linux/arm/v7", Layers: registry.Layers(1, 10)})
	single := r.Remote().Push(t, "a", "one", registry.Image{Docker: true, Platform: "linux/arm64/v8", Layers: registry.Layers(1, 10)})
	for ref, want := range map[string]moss.Distribution{
		"a:multi":                     {MediaType: index.Kind, Digest: index.Digest.String(), Size: index.Size, Platforms: []string{"linux/amd64", "linux/arm/v7", "unknown/unknown"}},
		"a:one":                       {MediaType: single.Kind, Digest: single.Digest.String(), Size: single.Size, Platforms: []string{"linux/arm64/v8"}},
		"a@" + single.Digest.String(): {MediaType: single.Kind, Digest: single.Digest.String(), Size: single.Size, Platforms: []string{"linux/arm64/v8"}},
	} {
		d, err := c.Distribution(t.Context(), r.Host+"/"+ref, moss.Credentials{})
		if len(d.Platforms) == 4 { // an attestation each
			d.Platforms = d.Platforms[:3]
		}
		if err != nil || d.MediaType != want.MediaType || d.Digest != want.Digest || d.Size != want.Size || !slices.Equal(d.Platforms, want.Platforms) {
			t.Errorf("%s: %+v %v, want %+v", ref, d, err, want)
		}
	}
}

func TestSearch(t *testing.T) {
	r := registry.New(t, registry.Options{})
	c := client(t, Options{})
	for _, name := range []string{"web/nginx", "nginx", "other"} {
		r.Remote().Push(t, name, "v1", registry.Image{Layers: registry.Layers(1, 10)})
	}
	found, err := c.Search(t.Context(), moss.SearchQuery{Term: r.Host + "/nginx"})
	if err != nil || len(found) != 2 || found[0].Name != r.Host+"/nginx" || found[1].Name != r.Host+"/web/nginx" {
		t.Errorf("%+v %v", found, err)
	}
	if found, err = c.Search(t.Context(), moss.SearchQuery{Term: r.Host + "/nginx", Limit: 1}); err != nil || len(found) != 1 {
		t.Errorf("%+v %v", found, err)
	}
	if found, err = c.Search(t.Context(), moss.SearchQuery{Term: r.Host + "/nginx", Stars: 1}); err != nil || len(found) != 0 {
		t.Errorf("%+v %v", found, err)
	}
	_, err = c.Search(t.Context(), moss.SearchQuery{Term: "x", Limit: 101})
	wantClass(t, err, moss.Invalid, "limit 101 is outside the range of [1, 100]")
	_, err = c.Search(t.Context(), moss.SearchQuery{Term: "https://x/y"})
	wantClass(t, err, moss.Invalid, "should not have a scheme")
	r.Stop()
	_, err = c.Search(t.Context(), moss.SearchQuery{Term: r.Host + "/nginx"})
	wantClass(t, err, moss.Unavailable, "")
}

func TestTarget(t *testing.T) {
	r := registry.New(t, registry.Options{Users: map[string]string{"alice": "secret"}})
	c := client(t, Options{})
	cred := moss.Credentials{Username: "alice", Password: "secret"}
	made := r.Remote().Push(t, "base", "v1", registry.Image{Layers: registry.Layers(1, 1<<16)})
	to, err := c.Create(t.Context(), r.Host+"/copy:v1", cred)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	layer := made.Layers[0]
	if _, ok, err := to.Has(t.Context(), layer.Digest); ok || err != nil {
		t.Error(ok, err)
	}
	if _, ok, err := to.Mount(t.Context(), layer.Digest, r.Host+"/nothing"); ok || err != nil {
		t.Error(ok, err)
	}
	if size, ok, err := to.Mount(t.Context(), layer.Digest, r.Host+"/base"); !ok || err != nil || size != layer.Size {
		t.Error(size, ok, err)
	}
	if _, ok, err := to.Has(t.Context(), layer.Digest); !ok || err != nil {
		t.Error(ok, err)
	}
	s, err := c.Open(t.Context(), r.Host+"/base:v1", cred)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	config, _, err := s.Blob(t.Context(), made.Config, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer config.Close()
	if d, _, err := to.Put(t.Context(), config, true); err != nil || d != made.Config {
		t.Error(d, err)
	}
	if err := to.PutManifest(t.Context(), made.Body); err != nil {
		t.Error(err)
	}
	if err := readAll(t.Context(), c, r.Host+"/copy:v1", cred, made); err != nil {
		t.Error(err)
	}
	anyone, err := c.Create(t.Context(), r.Host+"/copy:v2", moss.Credentials{})
	if err == nil {
		_, _, err = anyone.Put(t.Context(), strings.NewReader("x"), false)
		anyone.Close()
	}
	wantClass(t, err, moss.Unauthorized, "unauthorized: authentication required")
}
