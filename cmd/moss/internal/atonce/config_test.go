package atonce_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/cmd/moss/dockerconfig"
	"github.com/moss-containers/moss/cmd/moss/internal/atonce"
)

// loginConfig is what docker's client has written after some use.
const loginConfig = `{
	"auths": {
		"https://index.docker.io/v1/": {},
		"registry.example.com:5000": {
			"auth": "bWU6c2VjcmV0",
			"identitytoken": "a.b-c_d="
		}
	},
	"HttpHeaders": {"User-Agent": "x"},
	"credsStore": "secretservice",
	"credHelpers": {"a.example": "pass"},
	"currentContext": "moss",
	"psFormat": "table {{.ID}}",
	"plugins": {"x": {"y": "true"}},
	"experimental": true, "a": [1, 20, 0, null, [], {}],
	"features": {"buildkit": false}
}
`

func TestUnconcerned(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "{}": true, " {\t}\r\n": true, loginConfig: true,
		`{"auths":null}`:             false, // rare
		`{"detachKeys":"ctrl-a"}`:    false,
		`{"detach\u004beys":"a"}`:    false,
		`{"x":{"detachKeys":"a"}}`:   true,
		`{"a":1,"detachKeys":""}`:    false,
		`{"auths":{"a":""}}`:         false, // these are complained about
		`{"auths":[]}`:               false,
		`{"credsStore":1}`:           false,
		`{"credHelpers":{"a":true}}`: false,
		`{"a":1} x`:                  false,
		`{"a":1`:                     false,
		`{"a" 1}`:                    false,
		`{"a":1,}`:                   false,
		`{"a":01}`:                   false,
		`{"a":nul}`:                  false,
		`{a:1}`:                      false,
		"{\"a\":\"\n\"}":             false,
		"{}\x00":                     false,
		"[]":                         false,
		strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200): false,
	} {
		if got := atonce.Unconcerned([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// FuzzUnconcerned holds that a yes is one of command exec's too.
func FuzzUnconcerned(f *testing.F) {
	for _, text := range []string{"", "{}", loginConfig, `{"auths":{"a":{"auth":"x"}}}`, `{"credHelpers":{"a":"b"},"credsStore":"c"}`, `{"a":[1,0,true,{"detachKeys":null}]}`} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "config.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if !atonce.Unconcerned(text) {
			return
		}
		if err := os.WriteFile(path, text, fs.FileMode(0o600)); err != nil {
			t.Fatal(err)
		}
		c, err := dockerconfig.Load(func(name string) string { return map[string]string{"DOCKER_CONFIG": dir}[name] })
		if err != nil || c.DetachKeys() != "" {
			t.Errorf("%s: keys %q, %v", bytes.TrimSpace(text), c.DetachKeys(), err)
		}
	})
}
