package engine

import (
	"net/netip"
	"testing"
)

func TestSameHostIP(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"", "127.0.0.1", true},
		{"0.0.0.0", "127.0.0.1", true},
		{"0.0.0.0", "::", false},
		{"127.0.0.1", "127.0.0.2", false},
		{"::", "::1", true},
		{"::1", "::1", true},
	} {
		a, _ := netip.ParseAddr(tc.a) // "" is all
		b, _ := netip.ParseAddr(tc.b)
		if got := sameHostIP(a, b); got != tc.want || sameHostIP(b, a) != tc.want {
			t.Errorf("%q and %q: %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}
