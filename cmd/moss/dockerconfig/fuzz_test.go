package dockerconfig

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/moby/moby/api/types/registry"
)

// FuzzCredentials: an entry of docker's config.json, written by whatever client.
func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"auth":"bWU6c2VjcmV0","identitytoken":"x"}`))
	f.Add([]byte(`{"auth":5}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var e entry
		if json.Unmarshal(text, &e) == nil {
			_, _ = e.decode("registry.example.com")
		}
	})
}

// FuzzFile: whatever docker's config.json has, a login is read back as it was, and all else stays.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"auths":{"a.test":{"auth":"bWU6c2VjcmV0","x":1}},"HttpHeaders":{"a":"b"},"n":12345678901234567890}`), "me", "p:w")
	f.Add([]byte(`null`), "", "")
	f.Add([]byte(`{"auths":null,"credHelpers":{},"detachKeys":"ctrl-a"}`), "a", "")
	f.Add([]byte(`{"AUTHS":{"r.test":{}},"auths":{"https://r.test/v1/":{"identitytoken":"x"}}}`), "a", "b")
	f.Setenv("PATH", "") // no helper is started
	dir := f.TempDir()
	path := filepath.Join(dir, "config.json")
	f.Fuzz(func(t *testing.T, text []byte, name, password string) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		env := func(k string) string { return map[string]string{"DOCKER_CONFIG": dir}[k] }
		c, err := Load(env)
		if err != nil || c.Helper("r.test") != "" || name == "" || strings.Contains(name, ":") || strings.Trim(password, "\x00") != password {
			return
		}
		var before map[string]any
		_ = json.Unmarshal(text, &before) // Load has read it, or it was empty
		if err := c.Store(registry.AuthConfig{ServerAddress: "r.test", Username: name, Password: password}); err != nil {
			t.Fatal(err)
		}
		again, err := Load(env)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Get("r.test"); err != nil || got.Username != name || got.Password != password {
			t.Errorf("%q, %q are read back as %+v, %v", name, password, got, err)
		}
		for key := range before {
			if _, ok := again.keys[key]; !ok {
				t.Errorf("%q lost %q", text, key)
			}
		}
		for server := range c.auths {
			if _, ok := again.auths[server]; !ok {
				t.Errorf("%q lost the login at %q", text, server)
			}
		}
	})
}

// answers is a helper that always says the same.
type answers struct {
	text  []byte
	fails bool
}

func (a answers) Input(io.Reader) {}

func (a answers) Output() ([]byte, error) {
	if a.fails {
		return a.text, errors.New("exit status 1")
	}
	return a.text, nil
}

// FuzzHelper: whatever a credential helper answers, it is credentials for that registry or an error that can be shown.
func FuzzHelper(f *testing.F) {
	f.Add([]byte(`{"ServerURL":"r.test","Username":"me","Secret":"s"}`), false)
	f.Add([]byte(`{"Username":"<token>","Secret":"s"}`), false)
	f.Add([]byte("credentials not found in native keychain\n"), true)
	f.Add([]byte("\x1b[2Jno\a"), true)
	f.Add([]byte(strings.Repeat("long", 10<<10)), true)
	f.Fuzz(func(t *testing.T, text []byte, fails bool) {
		a, err := ask(func(...string) client.Program { return answers{text, fails} }, "x", "r.test")
		if a.ServerAddress != "r.test" || a.IdentityToken != "" && a.Username != "" {
			t.Errorf("%q is read as %+v", text, a)
		}
		if fails && (a.Username != "" || a.Password != "" || a.IdentityToken != "") {
			t.Errorf("%q of a helper that failed is read as %+v", text, a)
		}
		if err != nil && (len(err.Error()) > 8<<10 || strings.ContainsFunc(err.Error(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' })) {
			t.Errorf("%d bytes: %.200q", len(err.Error()), err)
		}
	})
}
