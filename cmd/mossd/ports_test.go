package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/rootless"
)

func TestOwnAddresses(t *testing.T) {
	cfg := config.Config{Listen: config.Listen{
		Hosts: []string{"unix:///x", "tcp://127.0.0.1:2375", "tcp://localhost:2376", "tcp://127.0.0.1:0"}, MetricsAddress: ":9323",
	}}
	var got []string
	for _, a := range ownAddresses(cfg) {
		got = append(got, a.String())
	}
	if want := []string{"0.0.0.0:9323", "[::]:9323", "127.0.0.1:2375", "127.0.0.1:2376", "[::1]:2376"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Who has a port comes from the holder to where it is told.
func TestTakenBy(t *testing.T) {
	err := classified(fmt.Errorf("x: %w", &rootless.PortError{Op: "publish", Port: "80", Reason: rootless.ErrPortInUse, By: "nginx (process 7)"}))
	by, ok := errors.AsType[interface {
		error
		TakenBy() string
	}](err)
	if moss.ClassOf(err) != moss.Conflict || !ok || by.TakenBy() != "nginx (process 7)" {
		t.Errorf("%v: %v, %v", moss.ClassOf(err), by, ok)
	}
}

// What info tells of networks is what the settings have, where they have it.
func TestDescribeNetworks(t *testing.T) {
	driver := rootless.Info{NetworkDriver: "slirp4netns", MTU: 65520}
	tell := func(cfg config.Config) (h moss.HostInfo) {
		describeNetworks(&h, driver, networkConfig(cfg, driver))
		return h
	}
	h := tell(config.Config{Bridge: config.Bridge{IPTables: true}})
	if h.NetworkMTU != 65520 || len(h.NetworkPools) != 3 || h.NetworkPools[0].Base.String() != "172.16.0.0/12" || h.Filter != "nftables" {
		t.Errorf("without settings: %+v", h)
	}
	six := netip.MustParsePrefix("fd42::/48")
	h = tell(config.Config{MTU: 1400, Pools: []config.AddressPool{{Base: six, Size: 64}}})
	if h.NetworkMTU != 1400 || len(h.NetworkPools) != 4 || h.NetworkPools[3] != (moss.AddressPool{Base: six, Size: 64}) || h.Filter != "" {
		t.Errorf("with settings: %+v", h)
	}
}

// SYNs are marked only where it is asked for and the holder serves it: an older one does not.
func TestWayOut(t *testing.T) {
	serving := rootless.Info{WayOut: &rootless.WayOut{Mark: 7, Link: "moss-out", Tap: "tap0", Except: []netip.Prefix{rootless.TapNetwork6}}}
	for _, c := range []struct {
		asked  bool
		holder rootless.Info
		want   uint32
	}{{true, serving, 7}, {false, serving, 0}, {true, rootless.Info{}, 0}} {
		way := networkConfig(config.Config{WayOut: c.asked}, c.holder).WayOut
		if way.Mark != c.want || c.want != 0 && (way.Link != "moss-out" || way.Tap != "tap0" || len(way.Except) != 1) {
			t.Errorf("asked %v: %+v, want %d", c.asked, way, c.want)
		}
	}
}
