package network

import (
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"os"

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
// and takes nothing, and so do its two halves, which VPNs lay over it.
func overlapping(c netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.Bits() > 1 && c.Overlaps(t) {
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

// ownUniqueLocal is a /64 of a unique local prefix that is always the same for an
// engine, which its network namespace's path tells from others of the machine.
func ownUniqueLocal(netns string) netip.Prefix {
	machine, _ := os.ReadFile("/etc/machine-id") // without one, machines have the same; they do not meet
	sum := sha256.Sum256([]byte(string(machine) + netns))
	b := [16]byte{0: 0xfd}
	copy(b[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// uniqueLocal is a /64 of a random unique local prefix (RFC 4193).
func uniqueLocal() netip.Prefix {
	b := [16]byte{0: 0xfd}
	_, _ = rand.Read(b[1:6]) // never fails, see crypto/rand
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}
