package network

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

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
