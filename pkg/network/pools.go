package network

import (
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"os"
	"slices"

	"github.com/moss-containers/moss/pkg/moss"
)

// Pool is a range that subnets of a size are cut from, for networks that ask for none.
type Pool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"` // of a subnet, in bits
}

// defaultPools are those of an engine without default-address-pools. They are
// docker's, but for what rootless network drivers use.
var defaultPools = []Pool{
	{netip.MustParsePrefix("172.16.0.0/12"), 16},
	{netip.MustParsePrefix("192.168.0.0/16"), 20},
	{netip.MustParsePrefix("10.128.0.0/9"), 16},
}

// candidates are the subnets tried for the default bridge, in order. They are away
// from docker's own defaults, which the host may have on a bridge.
var candidates = []netip.Prefix{
	netip.MustParsePrefix("172.30.0.0/16"), netip.MustParsePrefix("172.29.0.0/16"), netip.MustParsePrefix("172.28.0.0/16"),
	netip.MustParsePrefix("172.27.0.0/16"), netip.MustParsePrefix("10.233.0.0/16"), netip.MustParsePrefix("10.234.0.0/16"),
	netip.MustParsePrefix("192.168.224.0/20"), netip.MustParsePrefix("192.168.240.0/20"),
}

// chooseSubnet is one for the default bridge that overlaps nothing taken: of the
// pools that are set, else the first candidate, else what a network would get.
func chooseSubnet(pools []Pool, taken []netip.Prefix) (netip.Prefix, error) {
	if len(poolsOf(pools, false)) == 0 {
		for _, c := range candidates {
			if _, there := overlapping(c, taken); !there {
				return c, nil
			}
		}
	}
	if p, err := fromPools(pools4(pools), false, taken); err == nil {
		return p, nil
	}
	return netip.Prefix{}, moss.Errorf(moss.Unavailable,
		"cannot choose a subnet for the default bridge: routes of the host and networks have them all; set bip in daemon.json, or default-address-pools")
}

// pools4 are those for IPv4: what is set, or moss's own.
func pools4(set []Pool) []Pool {
	if mine := poolsOf(set, false); len(mine) > 0 {
		return mine
	}
	return defaultPools
}

// InForce are the pools that subnets are cut from where these are set.
func InForce(set []Pool) []Pool { return slices.Concat(pools4(set), poolsOf(set, true)) }

// poolsOf are the pools of a family.
func poolsOf(pools []Pool, v6 bool) []Pool {
	return slices.DeleteFunc(slices.Clone(pools), func(p Pool) bool { return p.Base.Addr().Is6() != v6 })
}

// fromPools is the first subnet of the pools that overlaps nothing taken.
func fromPools(pools []Pool, v6 bool, taken []netip.Prefix) (netip.Prefix, error) {
	for _, p := range pools {
		if p.Base.Addr().Is6() != v6 {
			continue
		}
		for at := p.Base.Masked().Addr(); p.Base.Contains(at); {
			c := netip.PrefixFrom(at, p.Size)
			clash, ok := overlapping(c, taken)
			if !ok {
				return c, nil
			}
			// Over what is in the way, which may be larger than a subnet.
			next := last(c).Next()
			if end := last(clash).Next(); clash.Bits() < c.Bits() && end.IsValid() {
				next = end
			}
			if !next.IsValid() {
				break
			}
			at = next
		}
	}
	return netip.Prefix{}, moss.Errorf(moss.Forbidden,
		"all predefined address pools have been fully subnetted: name a subnet with --subnet, or set default-address-pools in daemon.json")
}

// overlapping finds what a subnet overlaps. A default route overlaps everything
// and takes nothing, and so do its two halves, which VPNs lay over it, and the
// whole of global IPv6 (2000::/3).
func overlapping(c netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		all := 1
		if t.Addr().Is6() {
			all = 3
		}
		if t.Bits() > all && c.Overlaps(t) {
			return t.Masked(), true
		}
	}
	return netip.Prefix{}, false
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		switch host := 8*(i+1) - p.Bits(); {
		case host >= 8:
			b[i] = 0xff
		case host > 0:
			b[i] |= 1<<host - 1
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// ownUniqueLocal has the /64 of a unique local prefix that is always the same for an
// engine, which its network namespace's path tells from others of the machine.
func ownUniqueLocal(netns string) Pool {
	machine, _ := os.ReadFile("/etc/machine-id") // without one, machines have the same; they do not meet
	sum := sha256.Sum256([]byte(string(machine) + netns))
	b := [16]byte{0: 0xfd}
	copy(b[1:6], sum[:])
	return Pool{Base: netip.PrefixFrom(netip.AddrFrom16(b), 48), Size: 64}
}

// uniqueLocal is a /64 of a random unique local prefix (RFC 4193).
func uniqueLocal() netip.Prefix {
	b := [16]byte{0: 0xfd}
	_, _ = rand.Read(b[1:6]) // never fails, see crypto/rand
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}
