package network

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestRulesOfManyGolden(t *testing.T) {
	got := Rules(
		moss.Network{Link: Bridge, Subnet: netip.MustParsePrefix("172.30.0.0/16")},
		moss.Network{Link: "br-both", Subnet: netip.MustParsePrefix("10.1.0.0/24"), Subnet6: netip.MustParsePrefix("fd00:1::/64")},
		moss.Network{Link: "br-inside", Subnet: netip.MustParsePrefix("10.2.0.0/24"), Internal: true},
		moss.Network{Link: "br-apart", Subnet: netip.MustParsePrefix("10.3.0.0/24"), Isolated: true, NoMasquerade: true},
	).String()
	golden(t, "networks.nft", got)
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
