package network

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/moss-containers/moss/pkg/moss"
)

// The settings of the default bridge: apart from each other, not masqueraded,
// without a filter, ports at one address.
func TestBridgeSettings(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	out := outside(t, r)
	r.cfg.Isolated, r.cfg.Plain, r.cfg.PublishIP = true, true, netip.MustParseAddr("127.0.0.1")
	n := r.open(t)
	if err := n.filter(); err != nil { // as Adopt does
		t.Fatal(err)
	}
	var att [2]moss.Attachment
	var c [2]*moss.Container
	for i := range c {
		c[i] = &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}}
		var err error
		if att[i], err = n.Attach(t.Context(), c[i]); err != nil {
			t.Fatal(err)
		}
	}
	listen(t, out, "192.0.2.1:80")
	listen(t, att[0].NetNS, ":80")
	first := netip.AddrPortFrom(att[0].Address.Addr(), 80).String()
	if _, err := dial(t, att[1].NetNS, first, 200*time.Millisecond); err == nil {
		t.Error("with icc off a container reaches another one")
	}
	// The outside of this test knows the way back, so that what is not masqueraded gets an answer.
	if seen, err := dial(t, att[1].NetNS, "192.0.2.1:80", 5*time.Second); err != nil || seen != att[1].Address.Addr() {
		t.Errorf("without masquerading %v is seen, %v", seen, err)
	}
	open, err := n.Publish(t.Context(), c[0].ID, att[0], []moss.PortBinding{{Port: moss.Port{Number: 80, Proto: moss.TCP}}})
	if err != nil || len(open) != 1 || open[0].Binding.HostIP != r.cfg.PublishIP {
		t.Errorf("published %+v, %v", open, err)
	}

	r.cfg.NoFilter = true
	n = r.open(t)
	if err := n.Adopt(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if seen, err := dial(t, out, first, 5*time.Second); err != nil || seen.String() != "192.0.2.1" {
		t.Errorf("without a filter the outside does not reach a container: %v, %v", seen, err)
	}
	att[0].Published = open
	if err := n.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{c[0].ID: att[0], c[1].ID: att[1]}); err != nil {
		t.Fatal(err)
	}
	for i := range c {
		if err := n.Detach(t.Context(), c[i].ID, att[i]); err != nil {
			t.Error(err)
		}
	}
}

// Without a default bridge there is none, once nobody is on it any more.
func TestNoBridge(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	c := &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}}
	a, err := r.n.Attach(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.NoBridge = true
	n := r.open(t)
	if err := n.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{c.ID: a}); err != nil {
		t.Errorf("a container that is on the bridge still: %v", err)
	}
	look := func(n *Networks) {
		t.Helper()
		all, err := n.List(t.Context())
		if err != nil || len(all) != 2 || all[0].Name == "bridge" {
			t.Errorf("networks %+v, %v", all, err)
		}
		if _, err := n.Attach(t.Context(), &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}}); moss.ClassOf(err) != moss.NotFound {
			t.Errorf("attached to a network that is not there: %v", err)
		}
	}
	look(n)
	if err := n.Detach(t.Context(), c.ID, a); err != nil {
		t.Fatal(err)
	}
	n = r.open(t)
	look(n)
	if _, err := n.handle.LinkByName(Bridge); err == nil {
		t.Error("the bridge is still there")
	}
	if err := n.Adopt(t.Context(), nil); err != nil {
		t.Error(err)
	}
	made, err := n.Create(t.Context(), moss.Network{ID: moss.NetworkID(moss.NewHexID()), Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(t.Context(), made.ID); err != nil {
		t.Error(err)
	}
	r.cfg.NoBridge = false
	r.n = r.open(t)
	if all, err := r.n.List(t.Context()); err != nil || len(all) != 3 || all[0].Name != "bridge" {
		t.Errorf("networks %+v, %v", all, err)
	}
}

func TestEndpointSysctls(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	attach := func(value string) (*moss.Container, moss.Attachment, error) {
		c := &moss.Container{
			ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: moss.NetworkBridge},
			Endpoints: map[string]moss.Endpoint{"bridge": {DriverOpts: map[string]string{moss.EndpointSysctls: value}}},
		}
		a, err := r.n.Attach(t.Context(), c)
		return c, a, err
	}
	c, a, err := attach("net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.tag=7")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"log_martians": "1", "tag": "7"} {
		var got []byte
		err := inNetNS(a.NetNS, func() error {
			var err error
			got, err = os.ReadFile("/proc/sys/net/ipv4/conf/eth0/" + name)
			return err
		})
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if err := r.n.Detach(t.Context(), c.ID, a); err != nil {
		t.Error(err)
	}
	// One that the kernel has not: nothing is left of the try.
	if _, _, err := attach("net.ipv4.conf.IFNAME.nosuch=1"); moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), "net.ipv4.conf.eth0.nosuch") {
		t.Errorf("refused with %v", err)
	}
}

// Names of links, and addresses besides the network's.
func TestEndpointLinks(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	ctx := t.Context()
	for _, name := range []string{"a", "b", "c"} {
		if _, err := r.n.Create(ctx, moss.Network{ID: moss.NetworkID(moss.NewHexID()), Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	named := func(name string) map[string]string { return map[string]string{moss.EndpointIfname: name} }
	c := &moss.Container{
		ID: moss.ContainerID(moss.NewHexID()), Host: moss.HostConfig{NetworkMode: "a"},
		Endpoints: map[string]moss.Endpoint{"a": {}, "b": {
			DriverOpts: named("eth0"), LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.7.8"), netip.MustParseAddr("fe80::7")},
		}},
	}
	at, err := r.n.Attach(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if at.Link != "eth1" || at.Others[0].Link != "eth0" || at.HostLink == at.Others[0].HostLink {
		t.Errorf("attached %+v", at)
	}
	s, err := openSpace(at.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	link, err := s.handle.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := s.handle.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range addrs {
		got = append(got, a.IPNet.String())
	}
	for _, want := range []string{"169.254.7.8/16", "fe80::7/64", at.Others[0].Address.String()} {
		if !slices.Contains(got, want) {
			t.Errorf("eth0 has %q, not %s", got, want)
		}
	}
	if _, err := r.n.Connect(ctx, c, at, "c", moss.Endpoint{DriverOpts: named("eth1")}); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("a name twice: %v", err)
	}
	if at, err = r.n.Connect(ctx, c, at, "c", moss.Endpoint{DriverOpts: named("backend")}); err != nil || at.Others[1].Link != "backend" {
		t.Fatalf("connected %+v, %v", at, err)
	}
	if err := r.n.Detach(ctx, c.ID, at); err != nil {
		t.Error(err)
	}
}

// The default bridge's IPv6 network: with one that is set, with one of the
// engine's own, kept while somebody is on it, and taken away.
func TestBridgeIPv6(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "10.99.0.0/24")
	net6 := func(n *Networks) netip.Prefix { return n.places[networkID(moss.NetworkBridge)].Subnet6 }
	if p := net6(r.n); p.IsValid() {
		t.Errorf("unasked, it has %s", p)
	}
	r.cfg.IPv6 = true
	n := r.open(t)
	own := net6(n)
	if !netip.MustParsePrefix("fd00::/8").Contains(own.Addr()) || own.Bits() != 64 {
		t.Errorf("its own is %s", own)
	}
	if again := net6(r.open(t)); again != own {
		t.Errorf("it has %s, and had %s", again, own)
	}
	r.cfg.Subnet6, r.cfg.Range6 = netip.MustParsePrefix("fd00:99::/64"), netip.MustParsePrefix("fd00:99::8:0/112")
	n = r.open(t)
	if err := n.filter(); err != nil {
		t.Fatal(err)
	}
	var at [2]moss.Attachment
	var ids [2]moss.ContainerID
	for i := range at {
		ids[i] = moss.ContainerID(moss.NewHexID())
		var err error
		if at[i], err = n.Attach(t.Context(), &moss.Container{ID: ids[i], Host: moss.HostConfig{NetworkMode: moss.NetworkBridge}}); err != nil {
			t.Fatal(err)
		}
		if !r.cfg.Range6.Contains(at[i].Address6.Addr()) || at[i].Gateway6.String() != "fd00:99::1" {
			t.Errorf("attached with %s by %s", at[i].Address6, at[i].Gateway6)
		}
	}
	at6 := netip.AddrPortFrom(at[0].Address6.Addr(), 80).String()
	listen(t, at[0].NetNS, at6)
	if seen, err := dial(t, at[1].NetNS, at6, time.Minute); err != nil || seen != at[1].Address6.Addr() {
		t.Errorf("%v is seen, %v", seen, err)
	}
	r.cfg.IPv6 = false
	n = r.open(t)
	if got := net6(n); got != netip.MustParsePrefix("fd00:99::/64") {
		t.Errorf("with containers on it, it has %s", got)
	}
	if err := n.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{ids[0]: at[0], ids[1]: at[1]}); err != nil {
		t.Error(err)
	}
	for i := range at {
		if err := n.Detach(t.Context(), ids[i], at[i]); err != nil {
			t.Error(err)
		}
	}
	if got := net6(r.open(t)); got.IsValid() {
		t.Errorf("switched off, it has %s", got)
	}
}
