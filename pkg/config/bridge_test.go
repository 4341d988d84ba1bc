package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBridgeConflicts(t *testing.T) {
	for _, tc := range []struct {
		text  string
		flags map[string]any
		want  string // of the error
	}{
		{`{}`, nil, ""},
		{`{"bridge":"none"}`, nil, ""},
		{`{"bridge":"br0"}`, nil, "the administrator's"},
		{`{"bridge":"none","bip":"10.9.0.1/16"}`, nil, "mutually exclusive"},
		{`{"bip":"10.9.0.1/16"}`, map[string]any{"bridge": "none"}, "mutually exclusive"},
		{`{"bip":"10.9.0.1/16","icc":false}`, nil, ""},
		{`{"icc":false,"iptables":false}`, nil, "icc=false"},
		{`{"icc":false}`, map[string]any{"iptables": false}, "icc=false"},
		{`{"iptables":false}`, nil, ""},
		{`{"ip":"127.0.0.1"}`, nil, ""},
		{`{"ip":"x"}`, nil, "unable to parse IP"},
	} {
		path := filepath.Join(t.TempDir(), "daemon.json")
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Default("", func(string) string { return "/x" })
		if err != nil {
			t.Fatal(err)
		}
		c, _, err = c.Load(path, tc.flags)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %v: %v, want %q", tc.text, tc.flags, err, tc.want)
		}
		if err == nil && c.Masquerades() != (c.IPTables && c.IPMasq) {
			t.Errorf("%s: masquerades %v", tc.text, c.Masquerades())
		}
	}
}
