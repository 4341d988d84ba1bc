package registry

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/types"
	"github.com/docker/distribution/registry/client/auth/challenge"
	"golang.org/x/net/http/httpguts"

	"github.com/moss-containers/moss/pkg/moss"
)

type answers func(*http.Request) *http.Response

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return a(r), nil
}

// FuzzToken: whatever a registry asks for and a token server answers, the
// header can be sent, and the words of a refusal can be shown.
func FuzzToken(f *testing.F) {
	const ask = `Bearer realm="https://tokens.test/token",service="s",scope="repository:a:pull"`
	f.Add(ask, 200, []byte(`{"token":"t","refresh_token":"r"}`))
	f.Add(ask, 200, []byte(`{"access_token":"t"}`))
	f.Add(ask, 200, []byte("{\"token\":\"a\\r\\nX: y\"}"))
	f.Add(ask, 401, []byte("{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"\\u001b[2Jno\"}]}"))
	f.Add(ask, 401, []byte("{\"details\":\"\\u0007no\"}"))
	f.Add(ask, 401, []byte("\x1b]0;no\a"))
	f.Add(ask, 503, []byte(`x`))
	f.Add(`Basic realm="x"`, 200, []byte(`{}`))
	f.Add(`Bearer realm="\x1b[2J:"`, 200, []byte(`{}`))
	f.Fuzz(func(t *testing.T, asked string, status int, body []byte) {
		if status < 100 || status > 999 || status >= 300 && status < 400 {
			return // no answer, or the client's own to follow
		}
		server := answers(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: r}
		})
		e := endpoint{url: &url.URL{Scheme: "https", Host: "registry.test"}, tr: server}
		refused := &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{"Www-Authenticate": {asked}}}
		for _, cred := range []moss.Credentials{{}, {Username: "u", Password: "p"}, {IdentityToken: "i"}} {
			header, _, err := e.authorize(t.Context(), challenge.ResponseChallenges(refused), cred, "repository:a:pull")
			if err == nil && !httpguts.ValidHeaderFieldValue(header) {
				t.Errorf("header %q", header)
			}
			if err == nil {
				continue
			}
			said := err.Error()
			if len(said) > 20<<10 || strings.ContainsFunc(said, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
				t.Errorf("%d bytes: %q", len(said), said[:min(len(said), 200)])
			}
		}
	})
}

// FuzzInsecure: what is taken as insecure is so for the registry it names, can
// be shown, and says the same when it is given again as it is shown.
func FuzzInsecure(f *testing.F) {
	for _, s := range []string{"registry.test", "registry.test:5000", "10.0.0.0/8", "10.1.2.3/8", "fd00::/8", "::ffff:10.0.0.0/104", "[fd00::1]:5000", "192.0.2.1:5000", "http://a", "a b", "a\x1b[2J", ":", "a:b:c", "a:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		in, err := parseInsecure([]string{s})
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%v is %v", err, moss.ClassOf(err))
			}
			return
		}
		if len(in.hosts) > 1 || len(in.hosts) == 1 && len(in.nets) != len(loopback) || len(in.hosts) == 0 && len(in.nets) > len(loopback)+1 {
			t.Fatalf("%q is read as %+v", s, in)
		}
		for _, h := range in.hosts {
			if !in.is(t.Context(), h) || strings.ContainsFunc(h, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }) {
				t.Errorf("%q is read as the host %q", s, h)
			}
		}
		shown := in.hosts
		for _, p := range in.nets {
			if !in.has(p.Addr()) {
				t.Errorf("%q is read as the network %s, which does not have its own address", s, p)
			}
			shown = append(shown, p.String())
		}
		again, err := parseInsecure(shown)
		if err != nil || !slices.Equal(again.hosts, in.hosts) || !slices.Equal(again.nets, in.nets) {
			t.Errorf("%q is read as %+v, and %q as %+v, %v", s, in, shown, again, err)
		}
	})
}

// FuzzMirror: a mirror that is taken can be written into the file that the library reads, and is read back.
func FuzzMirror(f *testing.F) {
	for _, s := range []string{"https://hub.test", "http://hub.test:5000/", "https://[fd00::1]:5000", "ftp://a", "https://a b", "https://a\"\n[[registry]]", "https://a\x1b", "https://u:p@a", "https://a?b", "https://a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c conf
		if err := c.addMirrors([]string{s}); err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%v is %v", err, moss.ClassOf(err))
			}
			return
		}
		at := c.Registries[0].Mirrors[0]
		u, err := url.Parse("https://" + at.Location + "/v2/")
		if err != nil || u.Host != at.Location {
			t.Errorf("%q is the mirror %q, which cannot be asked: %v", s, at.Location, err)
		}
		client := &Client{o: Options{TempDir: t.TempDir()}, files: map[string]bool{}}
		path, err := client.writeConf(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := sysregistriesv2.TryUpdatingCache(&types.SystemContext{SystemRegistriesConfPath: path, SystemRegistriesConfDirPath: client.o.TempDir + "/none"})
		if err != nil {
			t.Fatalf("%q cannot be read back: %v", s, err)
		}
		if len(got.Registries) != 1 || len(got.Registries[0].Mirrors) != 1 || got.Registries[0].Mirrors[0] != at {
			t.Errorf("%q is read back as %+v", s, got.Registries)
		}
	})
}
