package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"

	"github.com/moss-containers/moss/pkg/moss"
)

// checkSubnet makes sure that a subnet has room for a gateway and containers.
func checkSubnet(p netip.Prefix) error {
	if !p.Addr().Is4() || p.Bits() > 29 || p.Bits() < 8 {
		return moss.Errorf(moss.Invalid, "cannot use subnet %s for the bridge: it must be IPv4, from /8 to /29", p)
	}
	if s, there := overlapping(p, special); there {
		return moss.Errorf(moss.Invalid, "cannot use subnet %s for the bridge: addresses in %s are no host's on a network", p, s)
	}
	return nil
}

// ipam hands out the addresses of one subnet, lowest first. The gateway's and
// the reserved ones are nobody's. Nothing of it is on disk: the records of the
// containers say what is taken.
type ipam struct {
	subnet   netip.Prefix
	within   netip.Prefix // the part that addresses are given from
	gate     netip.Addr
	reserved map[netip.Addr]bool

	mu    sync.Mutex
	taken map[netip.Addr]moss.ContainerID
}

// newIPAM is for a subnet whose gateway has the first address.
func newIPAM(subnet netip.Prefix) *ipam {
	return newPool(subnet, netip.Prefix{}, subnet.Masked().Addr().Next(), nil)
}

// newPool is for a subnet, the zero Prefix for none: then there are no addresses to give.
func newPool(subnet, within netip.Prefix, gateway netip.Addr, reserved map[string]netip.Addr) *ipam {
	p := &ipam{subnet: subnet.Masked(), within: subnet.Masked(), gate: gateway, reserved: map[netip.Addr]bool{}, taken: map[netip.Addr]moss.ContainerID{}}
	if within.IsValid() && subnet.IsValid() {
		p.within = within.Masked()
	}
	for _, a := range reserved {
		p.reserved[a] = true
	}
	return p
}

// take gives a container an address.
func (p *ipam) take(id moss.ContainerID) (netip.Prefix, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.within.Addr()
	if a == p.subnet.Addr() {
		a = a.Next() // the network's own
	}
	for ; p.within.Contains(a); a = a.Next() {
		if _, ok := p.taken[a]; !ok && p.free(a) {
			p.taken[a] = id
			return netip.PrefixFrom(a, p.subnet.Bits()), nil
		}
	}
	family := "IPv4"
	if p.subnet.Addr().Is6() {
		family = "IPv6"
	}
	return netip.Prefix{}, moss.Errorf(moss.Unavailable,
		"no available %s addresses in %s: remove containers, or use a network with a larger subnet (for the network bridge: bip in daemon.json)", family, p.within)
}

// free says whether an address may be a container's at all.
func (p *ipam) free(a netip.Addr) bool {
	return a != p.gate && !p.reserved[a] && a != p.subnet.Addr() && (!a.Is4() || a != lastAddr(p.subnet))
}

// claim gives a container the address that it asks for.
func (p *ipam) claim(id moss.ContainerID, a netip.Addr) (netip.Prefix, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.subnet.IsValid() || !p.subnet.Contains(a) || a == p.subnet.Addr() || (a.Is4() && a == lastAddr(p.subnet)) {
		return netip.Prefix{}, moss.Errorf(moss.Invalid, "no configured subnet contains IP address %s", a)
	}
	if _, ok := p.taken[a]; ok || !p.free(a) {
		return netip.Prefix{}, moss.Errorf(moss.Forbidden, "Address already in use")
	}
	p.taken[a] = id
	return netip.PrefixFrom(a, p.subnet.Bits()), nil
}

// keep notes the address of a container that has one already.
func (p *ipam) keep(id moss.ContainerID, a netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, ok := p.taken[a]; ok && other != id {
		return moss.Errorf(moss.Conflict, "address %s of container %s is taken by container %s", a, id.Short(), other.Short())
	}
	p.taken[a] = id
	return nil
}

// owns tells whether an address is a container's.
func (p *ipam) owns(id moss.ContainerID, a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken[a] == id
}

// release gives back the address of a container, unless it is another's.
func (p *ipam) release(id moss.ContainerID, a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[a] == id {
		delete(p.taken, a)
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) | uint32(1<<(32-p.Bits())-1)
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// macOf is the hardware address that belongs to an IPv4 address, as docker has
// it: who gets a used address again is found under the same hardware address.
func macOf(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}
