package network

import (
	"net/netip"
	"testing"
)

func prefixes(in ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestFromPools(t *testing.T) {
	small := []Pool{{netip.MustParsePrefix("10.0.0.0/24"), 26}, {netip.MustParsePrefix("fd00::/62"), 64}}
	for _, tc := range []struct {
		pools []Pool
		v6    bool
		taken []netip.Prefix
		want  string // "" for none
	}{
		{defaultPools, false, nil, "172.16.0.0/16"},
		{defaultPools, false, prefixes("172.16.0.0/16", "0.0.0.0/0"), "172.17.0.0/16"},
		{defaultPools, false, prefixes("172.16.4.0/24", "172.18.0.0/16"), "172.17.0.0/16"},
		{defaultPools, false, prefixes("172.0.0.0/8"), "192.168.0.0/20"},
		{defaultPools, false, prefixes("172.0.0.0/8", "192.168.0.0/17"), "192.168.128.0/20"},
		{defaultPools, false, prefixes("128.0.0.0/1", "0.0.0.0/1"), "172.16.0.0/16"},
		{small, false, prefixes("10.0.0.0/25"), "10.0.0.128/26"},
		{small, false, prefixes("10.0.0.0/25", "10.0.0.128/27", "10.0.0.255/32"), ""},
		{small, true, prefixes("fd00::/63"), "fd00:0:0:2::/64"},
		{nil, true, nil, ""},
		{[]Pool{{netip.MustParsePrefix("255.255.255.0/24"), 25}}, false, prefixes("255.255.255.0/24"), ""},
	} {
		got, err := fromPools(tc.pools, tc.v6, tc.taken)
		if (err != nil) != (tc.want == "") || (err == nil && got.String() != tc.want) {
			t.Errorf("taken %v: %v, %v, want %q", tc.taken, got, err, tc.want)
		}
	}
}
