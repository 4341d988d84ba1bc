package api

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/registry"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzCredentials: what a client encodes is what the registry gets; all else is
// the client's mistake.
func FuzzCredentials(f *testing.F) {
	f.Add("me", "p?>", "!!")
	f.Add("", "", "e30=")
	f.Add("a:b", "\x00", "eyJhdXRoIjoieCJ9")
	f.Fuzz(func(t *testing.T, name, password, raw string) {
		want := moss.Credentials{Username: strings.ToValidUTF8(name, "\uFFFD"), Password: strings.ToValidUTF8(password, "\uFFFD")}
		b, err := json.Marshal(registry.AuthConfig{Username: want.Username, Password: want.Password})
		if err != nil {
			t.Fatal(err)
		}
		for _, enc := range []*base64.Encoding{base64.URLEncoding, base64.StdEncoding, base64.RawURLEncoding} {
			r := &request{Request: &http.Request{Header: http.Header{registry.AuthHeader: {enc.EncodeToString(b)}}}}
			if got, err := r.credentials(); err != nil || got != want {
				t.Errorf("%q: %+v, %v", b, got, err)
			}
		}
		r := &request{Request: &http.Request{Header: http.Header{registry.AuthHeader: {raw}}}}
		if _, err := r.credentials(); err != nil && moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

// FuzzPlatform: a platform that is taken is one that an image can have.
func FuzzPlatform(f *testing.F) {
	f.Add(armJSON)
	f.Add(`{"os":"linux","architecture":"x86_64"}`)
	f.Add(`{"os":"a/b","architecture":""}`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ociPlatform(s)
		if err != nil || p == "" {
			return
		}
		is := splitPlatform(p)
		img := moss.Image{OS: is.OS, Architecture: is.Architecture, Variant: is.Variant}
		if is.OS == "" || is.Architecture == "" || hasPlatform(&img, "x", p) != nil {
			t.Errorf("%q is %q", s, p)
		}
	})
}
