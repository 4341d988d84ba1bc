package main

import (
	"net/netip"
	"testing"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/rootless"
)

func TestHostGateway(t *testing.T) {
	wanted, gateway, child := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("10.0.2.100")
	for _, test := range []struct {
		name   string
		cfg    config.Config
		holder rootless.Info
		want   netip.Addr
		none   bool
	}{
		{name: "no way out", none: true},
		{name: "set", cfg: config.Config{HostGatewayIP: wanted}, holder: rootless.Info{ChildIP: child, Gateway: gateway, HostLoopback: true}, want: wanted},
		{name: "the newer key", cfg: config.Config{HostGatewayIPs: []netip.Addr{wanted, netip.MustParseAddr("2001:db8::9")}}, holder: rootless.Info{ChildIP: child}, want: wanted},
		{name: "loopback", holder: rootless.Info{ChildIP: child, Gateway: gateway, HostLoopback: true}, want: gateway},
	} {
		n := networkConfig(test.cfg, test.holder)
		switch {
		case test.none:
			if n.Host != nil {
				t.Errorf("%s: the host is at %s", test.name, n.Host())
			}
		case n.Host == nil || n.Host() != test.want:
			t.Errorf("%s: not at %s", test.name, test.want)
		}
	}
	n := networkConfig(config.Config{}, rootless.Info{ChildIP: child, Gateway: gateway})
	if a := n.Host(); a.IsLoopback() || a == gateway {
		t.Errorf("the host is at %s", a)
	}
}
