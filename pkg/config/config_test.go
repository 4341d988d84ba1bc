package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func env(kv ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i]] = kv[i+1]
	}
	return func(k string) string { return m[k] }
}

func TestDirectoriesFollowXDG(t *testing.T) {
	c, err := Default("", env("XDG_RUNTIME_DIR", "/run/user/7", "HOME", "/home/u"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Run != "/run/user/7/moss" || c.Data != "/home/u/.local/share/moss" || c.File() != "/home/u/.config/moss/daemon.json" {
		t.Errorf("%+v", c)
	}
	c, err = Default("moss-dev", env("XDG_RUNTIME_DIR", "/r", "HOME", "/home/u", "XDG_DATA_HOME", "/d", "XDG_CONFIG_HOME", "not/absolute"))
	if err != nil || c.Data != "/d/moss-dev" || c.Etc != "/home/u/.config/moss-dev" {
		t.Errorf("%+v %v", c, err)
	}
	for _, bad := range []func(string) string{env("HOME", "/h"), env("XDG_RUNTIME_DIR", "/r")} {
		if _, err := Default("", bad); err == nil {
			t.Error("no error without the variables")
		}
	}
	for _, prefix := range []string{"Moss", "a/b", "-a", "a--b", "a b"} {
		if _, err := Default(prefix, env("XDG_RUNTIME_DIR", "/r", "HOME", "/h")); err == nil {
			t.Errorf("prefix %q was taken", prefix)
		}
	}
}

func TestFile(t *testing.T) {
	for text, want := range map[string]string{
		``: "",
		`{"mtu": 1400, "dns": ["192.0.2.1"], "bip": "10.9.0.1/24", "storage-driver": "overlay2"}`: "",
		`{"userns-remap": "default"}`: "--userns auto",
		`{"no-such": 1}`:              "don't match any configuration option: no-such",
		`{"mtu": 1}`:                  `"mtu"`,
		`{"bip": "10.9.0.0/24"}`:      `"bip"`,
		`{"bip": "10.9.0.7/24"}`:      `"bip"`,
		`{"log-level": "loud"}`:       `"log-level"`,
		`{"data-root": "here"}`:       `"data-root"`,
		`{"storage-driver": "zfs"}`:   `"storage-driver"`,
		`{"moss-network-driver": ""}`: `"moss-network-driver"`,
		`{"mtu": 1400, "dns": ["x"]}`: `the setting "dns": ParseAddr("x")`,
		`{"dns-search": ["example.org", "."], "dns-opts": ["ndots:2"], "host-gateway-ips": ["192.0.2.1", "2001:db8::1"]}`: "",
		`{"dns-search": ["example.org b"]}`:                             `cannot use the setting "dns-search": example.org b is not a valid domain`,
		`{"dns-opts": [""]}`:                                            `the setting "dns-opts": "" is not one word`,
		`{"host-gateway-ips": ["192.0.2.1", "192.0.2.2"]}`:              `one IPv4 and one IPv6`,
		`{"host-gateway-ips": ["::1"], "host-gateway-ip": "192.0.2.2"}`: `leave one out`,
		`{"ip": "é"}`:  `the setting "ip"`,
		`{"mtu": "x"}`: `the setting "mtu"`,
		`{} {}`:        "after top-level value",
		`[`:            "cannot use the configuration",
	} {
		c, err := Default("", env("XDG_RUNTIME_DIR", "/r", "HOME", "/h"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "daemon.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := c.MTU
		err = c.ReadFile(path)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err != nil && c.MTU != before {
			t.Errorf("%s: a refused file changed the settings", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"bip": "10.9.0.1/24", "mtu": 1400}`))
	for _, s := range Settings() { // each key with each type
		for _, v := range []string{`null`, `true`, `-1`, `1e99`, `""`, `"\u0000"`, `"10.0.0.1"`, `[]`, `[null]`, `["=", "::/0"]`, `{}`, `{"": {}}`, `[{"base": "x", "size": -1}]`} {
			f.Add([]byte(`{"` + s.Key + `": ` + v + `}`))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Default("", env("XDG_RUNTIME_DIR", "/r", "HOME", "/h"))
		if err != nil {
			t.Fatal(err)
		}
		if c.decode(text) == nil {
			if err := c.Validate(); err != nil {
				t.Errorf("taken, yet not valid: %v", err)
			}
		}
	})
}
