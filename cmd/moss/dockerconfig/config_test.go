package dockerconfig

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/registry"
)

// at makes a configuration with that text; "" is none.
func at(t *testing.T, text string) func(string) string {
	t.Helper()
	dir := t.TempDir()
	if text != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return env(map[string]string{"DOCKER_CONFIG": dir})
}

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func load(t *testing.T, getenv func(string) string) *Config {
	t.Helper()
	c, err := Load(getenv)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t *testing.T, getenv func(string) string, server string) registry.AuthConfig {
	t.Helper()
	a, err := load(t, getenv).Get(server)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestGet(t *testing.T) {
	at := at(t, `{"auths": {
		"https://index.docker.io/v1/": {"auth": "dTpwOnc="},
		"https://old.example.com/v2/": {"auth": "b2xkOnB3"},
		"token.example.com": {"auth": "dTo=", "identitytoken": "tok"},
		"plain.example.com": {"username": "a", "password": "b"},
		"empty.example.com": {}
	}}`)
	for server, want := range map[string]registry.AuthConfig{
		IndexServer:          {Username: "u", Password: "p:w"},
		"old.example.com":    {Username: "old", Password: "pw"},
		"token.example.com":  {Username: "u", IdentityToken: "tok"},
		"plain.example.com":  {Username: "a", Password: "b"},
		"empty.example.com":  {},
		"nosuch.example.com": {},
	} {
		want.ServerAddress = server
		if d := cmp.Diff(want, get(t, at, server)); d != "" {
			t.Errorf("%s: %s", server, d)
		}
	}
}

func TestEnvironmentComesFirst(t *testing.T) {
	at := at(t, `{"auths": {"a.example.com": {"auth": "dTpw"}, "b.example.com": {"auth": "dTpw"}}}`)
	getenv := func(k string) string {
		if k == "DOCKER_AUTH_CONFIG" {
			return `{"auths": {"a.example.com": {"auth": "ZTpm"}}}`
		}
		return at(k)
	}
	if a := get(t, getenv, "a.example.com"); a.Username != "e" || a.Password != "f" {
		t.Errorf("%+v", a)
	}
	if a := get(t, getenv, "b.example.com"); a.Username != "u" {
		t.Errorf("%+v", a)
	}
}

func TestBadFilesAreErrors(t *testing.T) {
	for _, text := range []string{"{", `{"auths": []}`, `{"credsStore": 5}`, "[]"} {
		if _, err := Load(at(t, text)); err == nil || !strings.Contains(err.Error(), "config.json") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, auth := range []string{`"?"`, `"bm9jb2xvbg=="`, `7`} {
		c := load(t, at(t, `{"auths": {"x": {"auth": `+auth+`}}}`))
		if _, err := c.Get("x"); err == nil || !strings.Contains(err.Error(), "for x") {
			t.Errorf("%s: %v", auth, err)
		}
	}
	for _, text := range []string{"null", `{"auths": null}`} {
		getenv := at(t, text)
		if err := load(t, getenv).Store(registry.AuthConfig{ServerAddress: "s", Username: "u", Password: "p"}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if a := get(t, getenv, "s"); a.Username != "u" {
			t.Errorf("%s: %+v", text, a)
		}
	}
}

func TestStoreKeepsTheRest(t *testing.T) {
	getenv := at(t, `{"auths": {"a.example.com": {"auth": "dTpw", "email": "x@example.com"}}, "psFormat": "{{.ID}}", "plugins": {"x": {"y": "z"}}}`)
	t.Setenv("PATH", t.TempDir())
	if err := load(t, getenv).Store(registry.AuthConfig{ServerAddress: "a.example.com", Username: "new", Password: "p:1"}); err != nil {
		t.Fatal(err)
	}
	if err := load(t, getenv).Store(registry.AuthConfig{ServerAddress: "b.example.com", Username: "u", IdentityToken: "tok"}); err != nil {
		t.Fatal(err)
	}
	path := load(t, getenv).Path()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
	"auths": {
		"a.example.com": {
			"auth": "bmV3OnA6MQ==",
			"email": "x@example.com"
		},
		"b.example.com": {
			"auth": "dTo=",
			"identitytoken": "tok"
		}
	},
	"plugins": {
		"x": {
			"y": "z"
		}
	},
	"psFormat": "{{.ID}}"
}`
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if found, err := load(t, getenv).Erase("a.example.com", "https://a.example.com"); !found || err != nil {
		t.Errorf("%v %v", found, err)
	}
	if a := get(t, getenv, "a.example.com"); a.Username != "" {
		t.Errorf("%+v", a)
	}
	if found, err := load(t, getenv).Erase("a.example.com"); found || err != nil {
		t.Errorf("%v %v", found, err)
	}
}

func TestALinkStaysALink(t *testing.T) {
	real := filepath.Join(t.TempDir(), "dotfiles.json")
	if err := os.WriteFile(real, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "config.json")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := load(t, env(map[string]string{"DOCKER_CONFIG": dir})).Store(registry.AuthConfig{ServerAddress: "s", Username: "u", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != real {
		t.Errorf("%q %v", to, err)
	}
	if text, err := os.ReadFile(real); err != nil || !strings.Contains(string(text), "dTpw") {
		t.Errorf("%s %v", text, err)
	}
}

func TestNowhereToWrite(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c := load(t, env(nil))
	if err := c.Store(registry.AuthConfig{ServerAddress: "s", Username: "u", Password: "p"}); err == nil || !strings.Contains(err.Error(), "$HOME") {
		t.Errorf("%v", err)
	}
}

// fakeHelper puts a program on the PATH that speaks the helpers' protocol and
// keeps what it is given in files of its directory.
func fakeHelper(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := `#!/bin/sh
cd ` + dir + `
key() { printf %s "$1" | tr -c 'a-zA-Z0-9.' _; }
echo "$1" >>log
case $1 in
store) text=$(cat); url=$(printf %s "$text" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/'); printf %s "$text" >"$(key "$url").json" ;;
get) f=$(key "$(cat)").json; if [ -e "$f" ]; then cat "$f"; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm "$(key "$(cat)").json" ;;
*) exit 1 ;;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func TestHelper(t *testing.T) {
	dir := fakeHelper(t, "fake")
	getenv := at(t, `{"credHelpers": {"h.example.com": "fake"}}`)
	for _, want := range []registry.AuthConfig{
		{ServerAddress: "h.example.com", Username: "u", Password: "secret"},
		{ServerAddress: "h.example.com", IdentityToken: "tok"},
	} {
		if err := load(t, getenv).Store(want); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, get(t, getenv, "h.example.com")); d != "" {
			t.Error(d)
		}
	}
	text, err := os.ReadFile(load(t, getenv).Path())
	if err != nil || strings.Contains(string(text), "tok") || !strings.Contains(string(text), `"h.example.com": {}`) {
		t.Errorf("%s %v", text, err)
	}
	var kept map[string]string
	stored, err := os.ReadFile(filepath.Join(dir, "h.example.com.json"))
	if err != nil || json.Unmarshal(stored, &kept) != nil || kept["Username"] != tokenUser {
		t.Errorf("%s %v", stored, err)
	}
	if a := get(t, getenv, "other.example.com"); a.Username != "" {
		t.Errorf("%+v", a)
	}
	if found, err := load(t, getenv).Erase("h.example.com", "https://h.example.com"); !found || err != nil {
		t.Errorf("%v %v", found, err)
	}
	if a := get(t, getenv, "h.example.com"); a != (registry.AuthConfig{ServerAddress: "h.example.com"}) {
		t.Errorf("%+v", a)
	}
}

func TestAMissingHelperIsAnError(t *testing.T) {
	c := load(t, at(t, `{"credsStore": "no-such-helper"}`))
	if _, err := c.Get("x"); err == nil || !strings.Contains(err.Error(), "docker-credential-no-such-helper") {
		t.Errorf("%v", err)
	}
	if err := c.Store(registry.AuthConfig{ServerAddress: "x", Username: "u", Password: "secret"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestTheDesktopsHelperIsTaken(t *testing.T) {
	dir := fakeHelper(t, "pass")
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	getenv := at(t, "")
	if err := load(t, getenv).Store(registry.AuthConfig{ServerAddress: "s", Username: "u", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	c := load(t, getenv)
	if c.Helper("s") != "pass" {
		t.Errorf("%+v", c)
	}
	if a := get(t, getenv, "s"); a.Username != "u" || a.Password != "p" {
		t.Errorf("%+v", a)
	}
}
