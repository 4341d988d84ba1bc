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
		{`{"iptables":false,"ip-masq":false}`, nil, ""},
		{`{"iptables":false,"ip-masq":true}`, nil, "ip-masq=true"},
		{`{"ip-masq":true}`, map[string]any{"iptables": false}, "ip-masq=true"},
		{`{"ip":"127.0.0.1"}`, nil, ""},
		{`{"ipv6":true}`, nil, ""},
		{`{"ipv6":true,"bip6":"fd00:1::1/64","fixed-cidr-v6":"fd00:1::/80"}`, nil, ""},
		{`{"ipv6":true,"fixed-cidr-v6":"fd00:1::/64"}`, nil, ""},
		{`{"fixed-cidr-v6":"fd00:1::/64"}`, nil, "set ipv6"},
		{`{"bip6":"fd00:1::1/64"}`, nil, "set ipv6"},
		{`{"ipv6":true,"bip6":"fd00:1::2/64"}`, nil, "not the first IPv6"},
		{`{"ipv6":true,"bip6":"10.9.0.1/16"}`, nil, "not the first IPv6"},
		{`{"ipv6":true,"fixed-cidr-v6":"fd00:1::1/64"}`, nil, "no IPv6 network"},
		{`{"ipv6":true,"bip6":"fd00:1::1/64","fixed-cidr-v6":"fd00:2::/80"}`, nil, "not within bip6"},
		{`{"bridge":"none","ipv6":true}`, nil, "mutually exclusive"},
		{`{"userland-proxy":false,"ip-forward":true,"ip6tables":true}`, nil, ""},
		{`{"userland-proxy":true}`, nil, "no proxy each"},
		{`{"ip-forward":false}`, nil, "make them internal"},
		{`{"ip6tables":false}`, nil, "one packet filter"},
		{`{"ip6tables":false,"iptables":false}`, nil, ""},
		{`{"default-gateway":"10.9.0.9"}`, nil, "only way out"},
		{`{"default-network-opts":{"overlay":{}}}`, nil, "the driver is bridge"},
		{`{"default-network-opts":{"bridge":{"com.docker.network.driver.mtu":"1400"}}}`, nil, ""},
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
