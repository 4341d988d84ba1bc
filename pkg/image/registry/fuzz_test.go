package registry

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

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
