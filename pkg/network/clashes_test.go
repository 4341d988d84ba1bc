package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/moss-containers/moss/pkg/moss"
)

// The default bridge takes no subnet of a network that the records have, whose
// bridge may not be there yet.
func TestBridgeBesideKept(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	first := r.n.pool().subnet
	r.cfg.Kept = []moss.Network{{Name: "kept", Subnet: first, Subnet6: netip.MustParsePrefix("fd00:5::/64")}}
	n := r.open(t)
	if got := n.pool().subnet; got.Overlaps(first) {
		t.Errorf("the bridge has %s, and network kept %s", got, first)
	}
	r.cfg.IPv6 = true
	own := r.open(t).placeOf(networkID(moss.NetworkBridge)).Subnet6
	r.cfg.IPv6 = false
	r.open(t)
	r.cfg.IPv6, r.cfg.Kept[0].Subnet6 = true, own
	if got := r.open(t).placeOf(networkID(moss.NetworkBridge)).Subnet6; got.Overlaps(own) {
		t.Errorf("the bridge has %s, and network kept %s", got, own)
	}
	refused := func(key, who string) {
		t.Helper()
		n, err := New(r.cfg)
		if err == nil {
			err = n.Close()
		}
		if moss.ClassOf(err) != moss.Conflict || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), who) {
			t.Errorf("%s: %v", key, err)
		}
	}
	r.cfg.Subnet6 = own
	refused("bip6", "network kept")
	r.cfg.IPv6, r.cfg.Subnet6 = false, netip.Prefix{}
	r.cfg.Subnet = first
	refused("bip", "network kept")
	r.cfg.Subnet, r.cfg.Ways = netip.MustParsePrefix("10.0.2.0/24"), prefixes("10.0.2.0/25")
	refused("bip", "way out")
	r.cfg.Subnet, r.cfg.Ways = netip.Prefix{}, nil
	r.n = r.open(t)
}

// A bridge that keeps its subnet, for the containers on it, gives no addresses
// of the range of another one; and the user is told.
func TestBridgeKeptRange(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	r.cfg.IPv6, r.cfg.Subnet6 = true, netip.MustParsePrefix("fd00:99::/64")
	n := r.open(t)
	if notes := n.Notes(); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}
	attach := func() (moss.ContainerID, moss.Attachment) {
		t.Helper()
		id := moss.ContainerID(moss.NewHexID())
		a, err := n.Attach(t.Context(), &moss.Container{ID: id, Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}})
		if err != nil {
			t.Fatal(err)
		}
		return id, a
	}
	all := map[moss.ContainerID]moss.Attachment{}
	id, a := attach()
	all[id] = a
	r.cfg.Subnet, r.cfg.Range = netip.MustParsePrefix("10.98.0.0/24"), netip.MustParsePrefix("10.98.0.128/25")
	r.cfg.Subnet6, r.cfg.Range6 = netip.MustParsePrefix("fd00:98::/64"), netip.MustParsePrefix("fd00:98::8:0/112")
	n = r.open(t)
	if err := n.Restore(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	id, b := attach()
	all[id] = b
	if !netip.MustParsePrefix("10.99.0.0/24").Contains(b.Address.Addr()) || !netip.MustParsePrefix("fd00:99::/64").Contains(b.Address6.Addr()) || b.Address == a.Address {
		t.Errorf("attached with %s and %s, beside %s and %s", b.Address, b.Address6, a.Address, a.Address6)
	}
	if notes := strings.Join(n.Notes(), "\n"); !strings.Contains(notes, "10.99.0.0/24") || !strings.Contains(notes, "fd00:99::/64") {
		t.Errorf("notes %q", notes)
	}
	for id, a := range all {
		if err := n.Detach(t.Context(), id, a); err != nil {
			t.Error(err)
		}
	}
	n = r.open(t)
	id, b = attach()
	if !r.cfg.Range.Contains(b.Address.Addr()) || !r.cfg.Range6.Contains(b.Address6.Addr()) || len(n.Notes()) > 0 {
		t.Errorf("attached with %s and %s; notes %q", b.Address, b.Address6, n.Notes())
	}
	if err := n.Detach(t.Context(), id, b); err != nil {
		t.Error(err)
	}
}

// What the holder's driver leads to, or may come to, is no network's.
func TestWaysOut(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "tap0"
	tap := netlink.NewVeth(attrs)
	tap.PeerName = "tap1"
	if err := r.n.handle.LinkAdd(tap); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.n.removeLink(attrs.Name); err != nil {
			t.Error(err)
		}
	}()
	link, err := r.n.handle.LinkByName(attrs.Name)
	if err == nil {
		err = r.n.handle.LinkSetUp(link)
	}
	if err == nil {
		err = inNetNS(r.cfg.NetNS, func() error { return setSysctl("net/ipv6/conf/tap0/disable_ipv6", "0") })
	}
	for _, a := range prefixes("10.0.2.100/24", "fd00:77::100/64") {
		if err == nil {
			err = r.n.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(a)})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.Ways = prefixes("fd00:78::/64")
	n := r.open(t)
	for _, p := range prefixes("10.0.2.0/24", "fd00:77::/64", "fd00:78::/48") {
		net := moss.Network{ID: moss.NetworkID(moss.NewHexID()), Name: "mine", Subnet: p}
		if p.Addr().Is6() {
			net.Subnet, net.Subnet6 = netip.Prefix{}, p
		}
		if _, err := n.Create(t.Context(), net); moss.ClassOf(err) != moss.Forbidden || !strings.Contains(err.Error(), "way out") {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// A network may have addresses of one that the host reaches, if the user says so; it is told.
func TestHides(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prefixes("198.51.100.0/24", "0.0.0.0/1") { // one as VPNs lay it over the default route
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Scope: netlink.SCOPE_LINK}); err != nil {
			t.Fatal(err)
		}
	}
	for subnet, want := range map[string]string{"198.51.100.128/25": "198.51.100.0/24", "198.51.0.0/16": "198.51.100.0/24", "10.9.0.0/24": "invalid Prefix"} {
		if got := r.n.Hides(moss.Network{Subnet: netip.MustParsePrefix(subnet)}); got.String() != want {
			t.Errorf("%s hides %s, want %s", subnet, got, want)
		}
	}
	if got := r.n.Hides(moss.Network{Subnet6: netip.MustParsePrefix("fd00:9::/64")}); got.IsValid() {
		t.Errorf("one without IPv4 hides %s", got)
	}
}

// What means something else everywhere is no network's, and what only looks so is.
func TestSpecialSubnets(t *testing.T) {
	for _, p := range []string{"127.0.0.0/8", "127.9.0.0/16", "0.0.0.0/8", "224.0.0.0/24", "::/64", "::ffff:10.0.0.0/112", "fe80::/64", "ff02::/64"} {
		p := netip.MustParsePrefix(p)
		if err := checkOwn(p, nil); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("a network with %s: %v", p, err)
		}
		if err := checkSubnet(p); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("a default bridge with %s: %v", p, err)
		}
	}
	for _, p := range []string{"128.0.0.0/16", "126.0.0.0/24", "240.0.0.0/16", "100.64.0.0/16", "fec0::/64", "2001:db8::/64", "fd00::/64"} {
		if err := checkOwn(netip.MustParsePrefix(p), nil); err != nil {
			t.Error(err)
		}
	}
}
