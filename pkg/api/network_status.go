package api

import (
	"math"
	"net/netip"

	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

// subnetsStatus tells how full the subnets of a network are, whose end points have these addresses.
func subnetsStatus(n moss.Network, taken []netip.Addr) *network.Status {
	out := network.SubnetStatuses{}
	add := func(subnet, within netip.Prefix, gateway netip.Addr) {
		if !subnet.IsValid() {
			return
		}
		subnet = subnet.Masked()
		if !within.IsValid() {
			within = subnet
		}
		used := map[netip.Addr]bool{subnet.Addr(): true, gateway: true}
		if subnet.Addr().Is4() {
			used[broadcast(subnet)] = true
		}
		for _, a := range n.Reserved {
			used[a] = true
		}
		for _, a := range taken {
			used[a] = true
		}
		inUse, inRange := uint64(0), uint64(0)
		for a := range used {
			if subnet.Contains(a) {
				inUse++
			}
			if within.Contains(a) {
				inRange++
			}
		}
		out[subnet] = network.SubnetStatus{IPsInUse: inUse, DynamicIPsAvailable: room(within, inRange)}
	}
	add(n.Subnet, n.Range, n.Gateway)
	add(n.Subnet6, n.Range6, n.Gateway6)
	return &network.Status{IPAM: network.IPAMStatus{Subnets: out}}
}

// room is how many addresses of a range are left, or as many as can be said.
func room(p netip.Prefix, used uint64) uint64 {
	host := p.Addr().BitLen() - p.Bits()
	if host >= 64 {
		return math.MaxUint64
	}
	return uint64(1)<<host - used
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
