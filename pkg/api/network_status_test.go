package api

import (
	"math"
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestNetworkStatus(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	for name, tc := range map[string]struct {
		net   moss.Network
		taken []netip.Addr
		want  network.SubnetStatuses
	}{
		"none": {want: network.SubnetStatuses{}},
		"empty": {
			net:  moss.Network{Subnet: prefix("172.16.0.0/16"), Gateway: addr("172.16.0.1")},
			want: network.SubnetStatuses{prefix("172.16.0.0/16"): {IPsInUse: 3, DynamicIPsAvailable: 65533}},
		},
		"range, reserved, and an address beside the range": {
			net: moss.Network{
				Subnet: prefix("10.1.2.0/24"), Gateway: addr("10.1.2.1"), Range: prefix("10.1.2.16/28"),
				Reserved: map[string]netip.Addr{"in": addr("10.1.2.17"), "out": addr("10.1.2.9")},
			},
			taken: []netip.Addr{addr("10.1.2.16"), addr("10.1.2.200")},
			want:  network.SubnetStatuses{prefix("10.1.2.0/24"): {IPsInUse: 7, DynamicIPsAvailable: 14}},
		},
		"IPv6": {
			net: moss.Network{
				Subnet: prefix("10.1.2.0/29"), Gateway: addr("10.1.2.1"), Subnet6: prefix("fd00::/64"), Gateway6: addr("fd00::1"), Range6: prefix("fd00::/112"),
			},
			taken: []netip.Addr{addr("10.1.2.2"), addr("fd00::2")},
			want: network.SubnetStatuses{
				prefix("10.1.2.0/29"): {IPsInUse: 4, DynamicIPsAvailable: 4}, prefix("fd00::/64"): {IPsInUse: 3, DynamicIPsAvailable: 65533},
			},
		},
		"more than can be said": {
			net:  moss.Network{Subnet6: prefix("fd00::/64"), Gateway6: addr("fd00::1")},
			want: network.SubnetStatuses{prefix("fd00::/64"): {IPsInUse: 2, DynamicIPsAvailable: math.MaxUint64}},
		},
	} {
		got := subnetsStatus(tc.net, tc.taken).IPAM.Subnets
		if len(got) != len(tc.want) {
			t.Errorf("%s: %v", name, got)
		}
		for p, want := range tc.want {
			if got[p] != want {
				t.Errorf("%s: %s has %+v, want %+v", name, p, got[p], want)
			}
		}
	}
}
