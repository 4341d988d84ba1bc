package network

import (
	"net/netip"

	"github.com/moss-containers/moss/pkg/moss"
)

// owned is a subnet that is not to be had.
type owned struct {
	subnet netip.Prefix
	by     string // for messages
}

// subnetsOf are those that networks have.
func subnetsOf(nets ...moss.Network) []owned {
	var out []owned
	for _, net := range nets {
		for _, s := range []netip.Prefix{net.Subnet, net.Subnet6} {
			if s.IsValid() {
				out = append(out, owned{s.Masked(), "network " + net.Name})
			}
		}
	}
	return out
}

// driversSubnets are where the holder's network driver leads to, which must stay reachable.
func (n *Networks) driversSubnets() []owned {
	var out []owned
	for _, w := range n.ways {
		out = append(out, owned{w, "the way out of the engine's network namespace"})
	}
	return out
}

func subnets(all []owned) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(all))
	for _, o := range all {
		out = append(out, o.subnet)
	}
	return out
}

// special have addresses that are not one host's among others (RFC 6890): loopback,
// link-local, multicast. A bridge of loopback's would take what is a container's own.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/8"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// clash finds the owner of what a subnet overlaps.
func clash(p netip.Prefix, all []owned) (owned, bool) {
	for _, o := range all {
		if _, there := overlapping(p, []netip.Prefix{o.subnet}); there {
			return o, true
		}
	}
	return owned{}, false
}

// Hides is a network of the host's that this one takes the place of, for all
// containers: a subnet that the user names may be one that the host reaches.
func (n *Networks) Hides(net moss.Network) netip.Prefix {
	if !net.Subnet.IsValid() {
		return netip.Prefix{}
	}
	host, err := hostRoutes()
	if err != nil {
		return netip.Prefix{} // nobody knows
	}
	hidden, _ := overlapping(net.Subnet, host)
	return hidden
}

// checkSetting says whether the default bridge can have the subnet of a setting.
func checkSetting(key string, p netip.Prefix, others []owned) error {
	if o, there := clash(p, others); there {
		return moss.Errorf(moss.Conflict,
			"cannot give the default bridge the network %s (%s in daemon.json): it overlaps %s of %s; choose another one", p, key, o.subnet, o.by)
	}
	return nil
}

// part is the range that addresses are given from, or the whole, the zero Prefix,
// where it is none of the subnet, which the bridge may have kept.
func part(within, subnet netip.Prefix) netip.Prefix {
	if !within.IsValid() || !subnet.IsValid() || within.Bits() < subnet.Bits() || !subnet.Contains(within.Addr()) {
		return netip.Prefix{}
	}
	return within
}
