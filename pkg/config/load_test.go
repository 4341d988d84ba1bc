package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func defaults(t *testing.T) Config {
	t.Helper()
	c, err := Default("", env("XDG_RUNTIME_DIR", "/r", "HOME", "/h"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoad(t *testing.T) {
	path := file(t, `{"mtu": 1400, "labels": ["a=b"]}`)
	c, from, err := defaults(t).Load(path, map[string]any{"debug": true, "dns": []string{"192.0.2.1"}, "bip": "10.9.0.1/24"})
	if err != nil {
		t.Fatal(err)
	}
	if c.MTU != 1400 || !c.Debug || c.Level().String() != "DEBUG" || len(c.DNS) != 1 || c.BIP.Bits() != 24 || c.LogLevel != "info" {
		t.Errorf("%+v", c)
	}
	want := Sources{"mtu": path, "labels": path, "debug": "flag --debug", "dns": "flag --dns", "bip": "flag --bip"}
	if !reflect.DeepEqual(from, want) {
		t.Errorf("%v, want %v", from, want)
	}
	was := c
	c.Take(defaults(t), []string{"mtu", "labels"})
	if c.MTU != 0 || len(c.Labels) != 0 || !c.Debug || len(was.Labels) != 1 {
		t.Errorf("%+v", c)
	}
	c = was
	if got := string(c.Setting("labels")); got != `["a=b"]` {
		t.Errorf("labels is %s", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct {
		file  string
		flags map[string]any
		want  string
	}{
		{`{"mtu": 1400, "debug": true}`, map[string]any{"mtu": 1500, "debug": true}, "both as a flag and in the configuration file: debug: (from flag: true, from file: true), mtu: (from flag: 1500, from file: 1400)"},
		{`{"b": 1, "a": 1, "mtu": 1400}`, nil, "don't match any configuration option: a, b"},
		{`{"MTU": 1400}`, nil, "don't match any configuration option: MTU"},
		{`{"mtu": "x"}`, nil, "cannot use the configuration in"},
		{``, map[string]any{"mtu": 3}, `"mtu"`},
	} {
		if _, _, err := defaults(t).Load(file(t, tc.file), tc.flags); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %v: %v, want %q", tc.file, tc.flags, err, tc.want)
		}
	}
	if _, _, err := defaults(t).Load(t.TempDir(), nil); err == nil {
		t.Error("a directory was read")
	}
}

func TestEverySettingHasAUsage(t *testing.T) {
	for _, s := range Settings() {
		if s.Usage == "" {
			t.Errorf("%s has no text for its flag", s.Key)
		}
	}
}

func TestListen(t *testing.T) {
	for text, want := range map[string]string{
		`{"hosts": ["unix:///tmp/x.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375"]}`: "",
		`{"hosts": ["tcp://0.0.0.0:2376"], "tlsverify": true}`:                          "",
		`{"hosts": ["tcp://localhost:2376"], "tls": true}`:                              "",
		`{"hosts": ["tcp://0.0.0.0:2375"]}`:                                             "set tlsverify",
		`{"hosts": ["tcp://192.0.2.1:2376"], "tls": true}`:                              "set tlsverify",
		`{"hosts": ["tcp://:2375"]}`:                                                    "no address",
		`{"hosts": ["tcp://127.0.0.1"]}`:                                                "no port",
		`{"hosts": ["tcp://127.0.0.1:99999"]}`:                                          "no port between",
		`{"hosts": ["unix://x.sock"]}`:                                                  "no absolute path",
		`{"hosts": ["fd://"]}`:                                                          "without being named",
		`{"hosts": ["npipe://x"]}`:                                                      "neither unix:// nor tcp://",
		`{"hosts": ["/x.sock"]}`:                                                        "not like",
		`{"hosts": ["unix:///x", "unix:///x"]}`:                                         "given twice",
		`{"tls": true}`:                                                                 "no tcp://",
		`{"tlscert": "x.pem"}`:                                                          "tlscert",
		`{"metrics-addr": "9323"}`:                                                      "metrics-addr",
	} {
		_, _, err := defaults(t).Load(file(t, text), nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	c := defaults(t)
	c.TLSCert = "/x/c.pem"
	if ca, cert, key := c.Certificates(); ca != "/h/.config/moss/ca.pem" || cert != "/x/c.pem" || key != "/h/.config/moss/key.pem" {
		t.Error(ca, cert, key)
	}
}

// What of a file can be used, although the whole of it cannot.
func TestUsable(t *testing.T) {
	c := defaults(t).Usable(file(t, `{"nope": 1, "moss-network-driver": "pasta", "log-level": "chatty", "debug": true, "mtu": 1400}`), "moss-network-driver", "log-level", "debug")
	if c.NetworkDriver != "pasta" || c.LogLevel != "info" || !c.Debug || c.MTU != 0 {
		t.Errorf("%+v", c)
	}
	if c, _, err := defaults(t).Load(file(t, "\ufeff{\"mtu\": 1400}"), nil); err != nil || c.MTU != 1400 {
		t.Errorf("with a byte order mark: %v", err)
	}
	for _, text := range []string{"{", "[]", ""} {
		if c := defaults(t).Usable(file(t, text), "debug"); c.NetworkDriver != "auto" || c.Debug {
			t.Errorf("%q: %+v", text, c)
		}
	}
}
