package network

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestRulesOfManyGolden(t *testing.T) {
	got := Rules(
		WayOut{},
		moss.Network{Link: Bridge, Subnet: netip.MustParsePrefix("172.30.0.0/16")},
		moss.Network{Link: "br-both", Subnet: netip.MustParsePrefix("10.1.0.0/24"), Subnet6: netip.MustParsePrefix("fd00:1::/64")},
		moss.Network{Link: "br-inside", Subnet: netip.MustParsePrefix("10.2.0.0/24"), Internal: true},
		moss.Network{Link: "br-apart", Subnet: netip.MustParsePrefix("10.3.0.0/24"), Isolated: true, NoMasquerade: true},
	).String()
	golden(t, "networks.nft", got)
}

func TestRulesOfTheWayOutGolden(t *testing.T) {
	way := WayOut{
		Mark: 0x6d6f7333, Link: "moss-out", Tap: "tap0",
		Except: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/24"), netip.MustParsePrefix("fd00::/64")},
	}
	got := Rules(
		way,
		moss.Network{Link: Bridge, Subnet: netip.MustParsePrefix("172.30.0.0/16")},
		moss.Network{Link: "br-inside", Subnet: netip.MustParsePrefix("10.2.0.0/24"), Internal: true},
	).String()
	golden(t, "wayout.nft", got)
}

// TestPoolLeaksNothing: whatever is taken, claimed, kept over a restart and
// given back, no address has two owners, and in the end all are free again.
func TestPoolLeaksNothing(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		subnet := netip.MustParsePrefix([]string{"10.0.0.0/28", "fd00::/124"}[r.IntN(2)])
		gateway := subnet.Addr().Next()
		reserved := map[string]netip.Addr{"r": gateway.Next()}
		fresh := func() *ipam { return newPool(subnet, netip.Prefix{}, gateway, reserved) }
		p, owners := fresh(), map[netip.Addr]moss.ContainerID{}
		got := func(id moss.ContainerID, a netip.Prefix, err error) {
			if err != nil {
				return
			}
			if other, there := owners[a.Addr()]; there {
				t.Fatalf("seed %d: %s is given to %s, and is %s's", seed, a, id, other)
			}
			if a.Addr() == gateway || a.Addr() == reserved["r"] || !subnet.Contains(a.Addr()) {
				t.Fatalf("seed %d: %s is given", seed, a)
			}
			owners[a.Addr()] = id
		}
		for step := range 200 {
			id := moss.ContainerID(rune('a' + step%26))
			switch r.IntN(5) {
			case 0, 1:
				a, err := p.take(id)
				got(id, a, err)
			case 2:
				want := subnet.Addr()
				for range r.IntN(18) {
					want = want.Next()
				}
				a, err := p.claim(id, want)
				got(id, a, err)
			case 3: // give one back, and once more as somebody else
				for a, owner := range owners {
					p.release("nobody", a)
					p.release(owner, a)
					delete(owners, a)
					break
				}
			case 4: // a restart
				p = fresh()
				for a, owner := range owners {
					if err := p.keep(owner, a); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
			}
		}
		for a, owner := range owners {
			p.release(owner, a)
		}
		if len(p.taken) != 0 {
			t.Fatalf("seed %d: left over: %v", seed, p.taken)
		}
	}
}

// TestNetworksLive: containers in two networks, a restart in between, and
// nothing is left.
func TestNetworksLive(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	ctx := t.Context()
	create := func(n moss.Network) moss.Network {
		t.Helper()
		n.ID = moss.NetworkID(moss.NewHexID())
		made, err := r.n.Create(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	a := create(moss.Network{Name: "a", Subnet: netip.MustParsePrefix("10.5.0.0/24"), Subnet6: netip.MustParsePrefix("fd00:5::/64")})
	b := create(moss.Network{Name: "b"})
	if _, err := r.n.Create(ctx, moss.Network{ID: "x", Name: "c", Subnet: netip.MustParsePrefix("10.5.0.128/25")}); moss.ClassOf(err) != moss.Forbidden {
		t.Errorf("a subnet in use: %v", err)
	}
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Name: "web", Host: moss.HostConfig{NetworkMode: "a"}}
	at, err := r.n.Attach(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if at.Name != "a" || !a.Subnet.Contains(at.Address.Addr()) || !a.Subnet6.Contains(at.Address6.Addr()) {
		t.Errorf("attached: %+v", at)
	}
	if at, err = r.n.Connect(ctx, c, at, "b", moss.Endpoint{GwPriority: 1}); err != nil {
		t.Fatal(err)
	}
	if at.Name != "b" || at.Link != "eth1" || len(at.Others) != 1 {
		t.Errorf("connected: %+v", at)
	}
	if err := r.n.Remove(ctx, a.ID); moss.ClassOf(err) != moss.Forbidden {
		t.Errorf("a network in use: %v", err)
	}
	again := r.open(t)
	if err := again.Adopt(ctx, []moss.Network{a, b}); err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(ctx, map[moss.ContainerID]moss.Attachment{c.ID: at}); err != nil {
		t.Fatal(err)
	}
	if err := again.Remove(ctx, b.ID); moss.ClassOf(err) != moss.Forbidden {
		t.Errorf("a network in use, after a restart: %v", err)
	}
	if at, err = again.Disconnect(ctx, c.ID, at, b.ID); err != nil || at.Name != "a" || len(at.Others) != 0 {
		t.Fatalf("disconnected: %+v, %v", at, err)
	}
	if err := again.Remove(ctx, b.ID); err != nil {
		t.Error(err)
	}
	if err := again.Detach(ctx, c.ID, at); err != nil {
		t.Error(err)
	}
	if err := again.Adopt(ctx, nil); err != nil { // a bridge that no record has
		t.Error(err)
	}
	if _, err := again.handle.LinkByName(a.Link); err == nil {
		t.Errorf("%s is left", a.Link)
	}
}

// TestNobodyUnfiltered: no network can be joined that the filter in force does not keep apart.
func TestNobodyUnfiltered(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	ctx := t.Context()
	for i := range 20 {
		want := moss.Network{ID: moss.NetworkID(moss.NewHexID()), Name: "new", Link: fmt.Sprint("br-new", i)}
		created := make(chan error, 1)
		go func() {
			var err error
			want, err = r.n.Create(ctx, want)
			created <- err
		}()
		for {
			if p, _, err := r.n.enter("new", "somebody"); err == nil {
				r.n.leave(p, "somebody")
				break
			}
			select {
			case err := <-created:
				if err != nil {
					t.Fatal(err)
				}
				created <- nil
			default:
				runtime.Gosched()
			}
		}
		if err := inNetNS(r.cfg.NetNS, func() error {
			if has := elementsOf(t, r.n.filterName, Set{Name: allLinks, Type: setLinks}); has != 2 {
				t.Errorf("round %d: a network can be joined, and the filter has %d, not that and the bridge", i, has)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := <-created; err != nil {
			t.Fatal(err)
		}
		if err := r.n.Remove(ctx, want.ID); err != nil {
			t.Fatal(err)
		}
	}

	holder := r.n.cfg.NetNS
	r.n.cfg.NetNS = t.TempDir() // where no filter can be set
	if err := r.n.Adopt(ctx, nil); err == nil {
		t.Fatal("a filter was set nowhere")
	}
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}}
	if _, err := r.n.Attach(ctx, c); moss.ClassOf(err) != moss.Unavailable {
		t.Errorf("without a filter: %v", err)
	}
	r.n.cfg.NetNS = holder
	a, err := r.n.Attach(ctx, c)
	if err != nil {
		t.Fatalf("it is not tried again: %v", err)
	}
	if err := r.n.Detach(ctx, c.ID, a); err != nil {
		t.Error(err)
	}
	if r.n.filterName == "" {
		t.Error("no filter is in force")
	}
}

// TestHalfMadeBridges: what an engine that was killed left half-made gets the rest.
func TestHalfMadeBridges(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	r.cfg.IPv6 = true
	r.open(t)
	stop := func() error { return setSysctl("net/ipv6/conf/all/forwarding", "0") }
	if err := inNetNS(r.cfg.NetNS, stop); err != nil { // an older engine forwarded at last
		t.Fatal(err)
	}
	n := r.open(t)
	forwards := func() error {
		is, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/forwarding")
		if err != nil || strings.TrimSpace(string(is)) != "1" {
			t.Errorf("IPv6 is not forwarded: %q, %v", is, err)
		}
		return err
	}
	if err := inNetNS(r.cfg.NetNS, forwards); err != nil {
		t.Error(err)
	}

	kept := moss.Network{
		ID: moss.NetworkID(moss.NewHexID()), Name: "kept", Driver: "bridge", Link: "br-kept", MTU: 9000,
		Subnet: netip.MustParsePrefix("10.5.0.0/24"), Gateway: netip.MustParseAddr("10.5.0.1"),
		IPv6: true, Subnet6: netip.MustParsePrefix("fd00:5::/64"), Gateway6: netip.MustParseAddr("fd00:5::1"),
	}
	for _, flags := range []net.Flags{0, net.FlagUp} { // an older engine had it up at first
		t.Run(fmt.Sprintf("flags=%v", flags), func(t *testing.T) { halfMade(t, n, kept, flags) })
	}
}

func halfMade(t *testing.T, n *Networks, kept moss.Network, flags net.Flags) {
	ctx := t.Context()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = kept.Link, flags
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	if err := n.Adopt(ctx, []moss.Network{kept}); err != nil {
		t.Fatal(err)
	}
	link, err := n.handle.LinkByName(kept.Link)
	if err != nil || link.Attrs().Flags&net.FlagUp == 0 {
		t.Fatalf("the bridge is down: %v", err)
	}
	addrs, err := n.handle.AddrList(link, netlink.FAMILY_ALL)
	var has []netip.Addr
	for _, a := range addrs {
		p, _ := prefixOf(a.IPNet)
		has = append(has, p.Addr())
	}
	if err != nil || !slices.Contains(has, kept.Gateway) || !slices.Contains(has, kept.Gateway6) {
		t.Errorf("it has %v, %v", has, err)
	}
	if err := n.Remove(ctx, kept.ID); err != nil {
		t.Error(err)
	}
}
