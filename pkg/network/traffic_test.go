package network

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/moss-containers/moss/pkg/moss"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestRulesGolden(t *testing.T) {
	got := Rules(WayOut{}, moss.Network{Link: Bridge, Subnet: netip.MustParsePrefix("172.30.0.0/16")}).String()
	golden(t, "bridge.nft", got)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

func tcpFor(at string) string {
	if strings.HasPrefix(at, "[") {
		return "tcp6"
	}
	return "tcp4"
}

// listen serves the peer's address to whoever connects inside a namespace.
func listen(t *testing.T, netns, at string) {
	t.Helper()
	var l net.Listener
	err := inNetNS(netns, func() error {
		var lc net.ListenConfig
		var err error
		l, err = lc.Listen(t.Context(), tcpFor(at), at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().String()) // the client notices
			c.Close()
		}
	}()
}

// dial connects from inside a namespace and returns how the server sees us.
func dial(t *testing.T, netns, to string, patience time.Duration) (netip.Addr, error) {
	t.Helper()
	var seen netip.Addr
	err := inNetNS(netns, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		// One address and no resolver: the socket is made on this thread.
		var d net.Dialer
		c, err := d.DialContext(ctx, tcpFor(to), to)
		if err != nil {
			return err
		}
		defer c.Close()
		text, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		at, err := netip.ParseAddrPort(string(text))
		seen = at.Addr()
		return err
	})
	return seen, err
}

// outside makes a namespace that the holder's reaches by a link, as a driver's
// network is reached; 192.0.2.1 is there, 192.0.2.2 is the holder's.
func outside(t *testing.T, r *networksRig) string {
	t.Helper()
	path := r.cfg.NetNS + "-outside"
	s, err := makeNetNS(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Cleanup(func() {
		if err := errors.Join(r.n.removeLink("up0"), removeNetNS(path)); err != nil {
			t.Error(err)
		}
	})
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Flags = "up0", net.FlagUp
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = "down0", netlink.NsFd(int(s.file.Fd()))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.n.handle.LinkAdd(pair))
	up, err := r.n.handle.LinkByName("up0")
	must(err)
	must(r.n.handle.AddrAdd(up, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.0.2.2/24"))}))
	down, err := s.handle.LinkByName("down0")
	must(err)
	must(s.handle.AddrAdd(down, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.0.2.1/24"))}))
	must(s.handle.LinkSetUp(down))
	// The outside knows the way to the containers and tries it.
	must(s.handle.RouteAdd(&netlink.Route{Dst: ipNet(r.n.pool().subnet), Gw: net.ParseIP("192.0.2.2")}))
	return path
}

func TestTraffic(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	out := outside(t, r)
	var att [2]moss.Attachment
	var c [2]*moss.Container
	for i := range c {
		c[i] = &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}}
		var err error
		if att[i], err = r.n.Attach(t.Context(), c[i]); err != nil {
			t.Fatal(err)
		}
	}
	listen(t, out, "192.0.2.1:80")
	listen(t, att[0].NetNS, ":80")
	listen(t, r.cfg.NetNS, "127.0.0.1:81")
	first := att[0].Address.Addr()

	for _, tc := range []struct {
		name, from, to string
		want           netip.Addr // as the server sees the client; zero: no way
	}{
		{"container to itself", att[0].NetNS, "127.0.0.1:80", netip.MustParseAddr("127.0.0.1")},
		{"container to container", att[1].NetNS, netip.AddrPortFrom(first, 80).String(), att[1].Address.Addr()},
		{"holder to container, as a published port", r.cfg.NetNS, netip.AddrPortFrom(first, 80).String(), att[0].Gateway},
		{"container to the outside, masqueraded", att[1].NetNS, "192.0.2.1:80", netip.MustParseAddr("192.0.2.2")},
		{"outside to container", out, netip.AddrPortFrom(first, 80).String(), netip.Addr{}},
		{"container to the holder's loopback", att[0].NetNS, "127.0.0.1:81", netip.Addr{}},
	} {
		patience := 5 * time.Second
		if !tc.want.IsValid() {
			patience = 300 * time.Millisecond
		}
		got, err := dial(t, tc.from, tc.to, patience)
		if got != tc.want || (err == nil) != tc.want.IsValid() {
			t.Errorf("%s: the server saw %v (%v), want %v", tc.name, got, err, tc.want)
		}
	}
	// A restarted engine sets the filter anew without a gap or a double.
	again := r.open(t)
	if err := again.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{c[0].ID: att[0], c[1].ID: att[1]}); err != nil {
		t.Fatal(err)
	}
	if got, err := dial(t, att[1].NetNS, "192.0.2.1:80", 5*time.Second); err != nil || got.String() != "192.0.2.2" {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	link, err := r.n.handle.LinkByName(att[0].HostLink)
	if err != nil || link.Attrs().MTU != r.cfg.MTU {
		t.Errorf("link %+v, %v: want MTU %d", link, err, r.cfg.MTU)
	}
	for i := range c {
		if err := again.Detach(t.Context(), c[i].ID, att[i]); err != nil {
			t.Error(err)
		}
	}
}

// The subnet can be changed as long as nobody is attached.
func TestSubnetChange(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	r.cfg.Subnet = netip.MustParsePrefix("10.98.0.0/29")
	n := r.open(t)
	if n.pool().subnet != r.cfg.Subnet {
		t.Errorf("subnet %v, want %v", n.pool().subnet, r.cfg.Subnet)
	}
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID())}
	a, err := n.Attach(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.Subnet = netip.Prefix{}
	if got := r.open(t).pool().subnet; got != n.pool().subnet {
		t.Errorf("subnet %v, want the bridge's %v", got, n.pool().subnet)
	}
	r.cfg.Subnet = netip.MustParsePrefix("10.97.0.0/24")
	if got := r.open(t).pool().subnet; got != n.pool().subnet {
		t.Errorf("subnet %v with a container attached, want %v", got, n.pool().subnet)
	}
	if err := n.Detach(t.Context(), c.ID, a); err != nil {
		t.Error(err)
	}
}

func TestIPAM(t *testing.T) {
	p := newIPAM(netip.MustParsePrefix("10.0.0.0/29"))
	var got []string
	for {
		a, err := p.take(moss.ContainerID(moss.NewHexID()))
		if err != nil {
			if moss.ClassOf(err) != moss.Unavailable {
				t.Errorf("exhausted: %v", err)
			}
			break
		}
		got = append(got, a.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.2/29", "10.0.0.3/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29"}, got); diff != "" {
		t.Error(diff)
	}
	p.release("other", netip.MustParseAddr("10.0.0.4"))
	if _, err := p.take("x"); err == nil {
		t.Error("somebody else could release an address")
	}
	if err := p.keep("x", netip.MustParseAddr("10.0.0.4")); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("keep of a taken address: %v", err)
	}
}

func TestChooseSubnet(t *testing.T) {
	taken := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("172.30.5.0/24"), netip.MustParsePrefix("172.28.0.0/15")}
	if got, err := chooseSubnet(nil, taken); err != nil || got.String() != "172.27.0.0/16" {
		t.Errorf("chose %v, %v", got, err)
	}
	vpn := prefixes("0.0.0.0/1", "128.0.0.0/1") // over the default route
	if got, err := chooseSubnet(nil, vpn); err != nil || got != candidates[0] {
		t.Errorf("beside a VPN: %v, %v", got, err)
	}
	if got, err := chooseSubnet(nil, candidates); err != nil || got.String() != "172.16.0.0/16" {
		t.Errorf("with all candidates taken: %v, %v", got, err)
	}
	pools := []Pool{{netip.MustParsePrefix("10.7.0.0/16"), 24}}
	if got, err := chooseSubnet(pools, prefixes("10.7.0.0/24")); err != nil || got.String() != "10.7.1.0/24" {
		t.Errorf("of pools that are set: %v, %v", got, err)
	}
	if _, err := chooseSubnet(pools, prefixes("10.0.0.0/8")); moss.ClassOf(err) != moss.Unavailable {
		t.Errorf("all taken: %v", err)
	}
}

func BenchmarkBridge(b *testing.B) { benchmark(b, moss.NetworkBridge) }

// BenchmarkOwn is on a network of a user's, with a resolver.
func BenchmarkOwn(b *testing.B) { benchmark(b, "own") }

func BenchmarkNone(b *testing.B) { benchmark(b, moss.NetworkNone) }

func benchmark(b *testing.B, mode moss.NetworkMode) {
	if !inNamespaces(b, "bench") {
		return
	}
	r := newRig(b, "10.99.0.0/16")
	if mode == "own" {
		net, err := r.n.Create(b.Context(), moss.Network{ID: moss.NetworkID(moss.NewHexID()), Name: string(mode)})
		if err != nil {
			b.Fatal(err)
		}
		defer func() {
			if err := r.n.Remove(context.Background(), net.ID); err != nil {
				b.Error(err)
			}
		}()
	}
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: mode}}
	var in, out time.Duration
	for b.Loop() {
		start := time.Now()
		a, err := r.n.Attach(b.Context(), c)
		if err != nil {
			b.Fatal(err)
		}
		mid := time.Now()
		if err := r.n.Detach(b.Context(), c.ID, a); err != nil {
			b.Fatal(err)
		}
		in, out = in+mid.Sub(start), out+time.Since(mid)
	}
	b.ReportMetric(float64(in.Microseconds())/float64(b.N), "µs/attach")
	b.ReportMetric(float64(out.Microseconds())/float64(b.N), "µs/detach")
}
