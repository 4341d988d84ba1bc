package network

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// What a container publishes is reached at the gateways of all networks that
// have a way out, by itself as well, over a restart, and until it is gone.
func TestGates(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	outside(t, r)
	nets := map[string]moss.Network{}
	for _, net := range []moss.Network{
		{Name: "other", Subnet: netip.MustParsePrefix("10.98.0.0/24")}, {Name: "inside", Subnet: netip.MustParsePrefix("10.97.0.0/24"), Internal: true},
	} {
		net.ID = moss.NetworkID(moss.NewHexID())
		made, err := r.n.Create(t.Context(), net)
		if err != nil {
			t.Fatal(err)
		}
		nets[made.Name] = made
	}
	attach := func(mode moss.NetworkMode) (*moss.Container, moss.Attachment) {
		t.Helper()
		c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: mode}}
		a, err := r.n.Attach(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return c, a
	}
	web, att := attach(moss.NetworkBridge)
	near, nearby := attach(moss.NetworkBridge)
	far, faraway := attach("other")
	locked, lockedIn := attach("inside")
	listen(t, att.NetNS, ":80")
	local := moss.PortBinding{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostIP: netip.MustParseAddr("127.0.0.1")}
	open, err := r.n.Publish(t.Context(), web.ID, att, []moss.PortBinding{local, {Port: moss.Port{Number: 80, Proto: moss.TCP}}})
	if err != nil {
		t.Fatal(err)
	}
	att.Published = open
	port, localPort := open[1].Binding.HostPort, open[0].Binding.HostPort
	gateway := netip.AddrPortFrom(att.Gateway, port).String()
	look := func(when string, there bool) {
		t.Helper()
		for _, tc := range []struct {
			name, from, to string
			reaches        bool
		}{
			{"itself", att.NetNS, gateway, there},
			{"its neighbour", nearby.NetNS, gateway, there},
			{"another network", faraway.NetNS, gateway, there},
			{"another network at its own gateway", faraway.NetNS, netip.AddrPortFrom(faraway.Gateway, port).String(), there},
			{"an internal network", lockedIn.NetNS, netip.AddrPortFrom(nets["inside"].Gateway, port).String(), false},
			{"its neighbour, at a port of the host's loopback", nearby.NetNS, netip.AddrPortFrom(att.Gateway, localPort).String(), false},
			{"its neighbour, at somebody else's address", nearby.NetNS, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port).String(), false},
		} {
			patience := 5 * time.Second
			if !tc.reaches {
				patience = 200 * time.Millisecond
			}
			if _, err := dial(t, tc.from, tc.to, patience); (err == nil) != tc.reaches {
				t.Errorf("%s: from %s to %s: %v", when, tc.name, tc.to, err)
			}
		}
	}
	look("published", true)

	// A new engine knows it by the records, whatever was in the kernel.
	if err := inNetNS(r.cfg.NetNS, func() error { return setGates(nil) }); err != nil {
		t.Fatal(err)
	}
	n := r.open(t)
	running := map[moss.ContainerID]moss.Attachment{web.ID: att, near.ID: nearby, far.ID: faraway, locked.ID: lockedIn}
	if err := n.Adopt(t.Context(), []moss.Network{nets["other"], nets["inside"]}); err != nil {
		t.Fatal(err)
	}
	if err := n.Restore(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	look("restored", true)
	if err := n.unpublish(t.Context(), web.ID, att); err != nil {
		t.Fatal(err)
	}
	look("closed", false)
	r.ports.gone = true // with the ports that it held
	if err := n.unpublish(t.Context(), web.ID, att); err != nil {
		t.Error(err)
	}
	r.ports.gone = false
	for id, a := range running {
		if err := n.Detach(t.Context(), id, a); err != nil {
			t.Error(err)
		}
	}
	for _, net := range nets {
		if err := n.Remove(t.Context(), net.ID); err != nil {
			t.Error(err)
		}
	}
}

func TestGatesOf(t *testing.T) {
	a := moss.Attachment{Interface: moss.Interface{Address: netip.MustParsePrefix("10.0.0.2/24")}}
	both := a
	both.Address6 = netip.MustParsePrefix("fd00::2/64")
	at := func(ip string) moss.PublishedPort {
		return moss.PublishedPort{Binding: moss.PortBinding{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostPort: 8080, HostIP: netip.MustParseAddr(ip)}}
	}
	all := []moss.PublishedPort{at("0.0.0.0"), at("::"), at("127.0.0.1"), at("::1")}
	if got := gates(a, all); len(got) != 1 || got[0].to.String() != "10.0.0.2:80" {
		t.Errorf("with IPv4: %+v", got)
	}
	if got := gates(both, all); len(got) != 2 || got[1].to.String() != "[fd00::2]:80" || !got[1].v6 {
		t.Errorf("with both: %+v", got)
	}
}

// The engine's own addresses are refused, also while it does not listen yet.
func TestOwnPorts(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	r.n.cfg.Own = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2375"), netip.MustParseAddrPort("[::]:9323")}
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}}
	a, err := r.n.Attach(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	binding := func(ip string, port uint16) moss.PortBinding {
		b := moss.PortBinding{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostPort: port}
		if ip != "" {
			b.HostIP = netip.MustParseAddr(ip)
		}
		return b
	}
	for _, b := range []moss.PortBinding{binding("", 2375), binding("127.0.0.1", 2375), binding("0.0.0.0", 2375), binding("127.0.0.1", 9323), binding("", 9323)} {
		if _, err := r.n.Publish(t.Context(), c.ID, a, []moss.PortBinding{b}); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("%+v: %v", b, err)
		}
	}
	// Other addresses, protocols and, of a range, other ports are free.
	udp, within := binding("", 2375), binding("127.0.0.1", 2375)
	udp.Port.Proto, within.HostPortEnd = moss.UDP, 2376
	open, err := r.n.Publish(t.Context(), c.ID, a, []moss.PortBinding{binding("::1", 2375), udp, within})
	if err != nil {
		t.Fatal(err)
	}
	if got := open[len(open)-1].Binding.HostPort; got != 2376 {
		t.Errorf("of the range %d is open", got)
	}
	if err := r.n.Detach(t.Context(), c.ID, a); err != nil {
		t.Error(err)
	}
}

func TestUnprivilegedStart(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err != nil {
		t.Skip(err)
	}
	if s := unprivilegedStart(); s == "" || s[0] < '0' || s[0] > '9' {
		t.Errorf("limit %q", s)
	}
}
