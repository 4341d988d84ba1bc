package porttest

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// NetworksRig is what the contract of [engine.Networks] is tried on.
type NetworksRig interface {
	Networks() engine.Networks
	// Again is the port as a restarted engine has it, on the same machine.
	Again(t *testing.T) engine.Networks
	// Busy takes a TCP port of the host that stays taken during the test.
	Busy(t *testing.T) uint16
	// Privileged is a port that a user must not open, 0 where there is none.
	Privileged(t *testing.T) uint16
	// Left tells what there is of containers: namespaces, links and open ports.
	Left(t *testing.T) []string
}

// Networks runs the contract suite of [engine.Networks]. open is called once a test.
func Networks(t *testing.T, open func(t *testing.T) NetworksRig) {
	t.Run("list", func(t *testing.T) {
		r := open(t)
		all, err := r.Networks().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		drivers := map[string]string{}
		for _, n := range all {
			drivers[n.Name] = n.Driver
			if len(n.ID) != 64 {
				t.Errorf("network %s has id %q", n.Name, n.ID)
			}
		}
		if drivers["bridge"] != "bridge" || drivers["host"] != "host" || drivers["none"] != "null" {
			t.Errorf("networks and drivers: %v", drivers)
		}
		again, err := r.Again(t).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range again {
			if n.ID != all[i].ID || n.Subnet != all[i].Subnet || n.Gateway != all[i].Gateway {
				t.Errorf("after a restart %+v, before %+v", n, all[i])
			}
		}
	})

	t.Run("modes", func(t *testing.T) {
		r := open(t)
		for _, mode := range []moss.NetworkMode{moss.NetworkHost, moss.NetworkNone, moss.NetworkBridge} {
			c := networkContainer(mode)
			a := attach(t, r, c)
			if a.Mode != mode || len(a.Network) != 64 || len(a.Endpoint) != 64 {
				t.Errorf("%s: %+v", mode, a)
			}
			if (a.NetNS == "") != (mode == moss.NetworkHost) {
				t.Errorf("%s: namespace %q", mode, a.NetNS)
			}
			if a.Address.IsValid() != (mode == moss.NetworkBridge) || a.Gateway.IsValid() != a.Address.IsValid() {
				t.Errorf("%s: address %v, gateway %v", mode, a.Address, a.Gateway)
			}
			detach(t, r, c, a)
			detach(t, r, c, a) // again
		}
		for mode, class := range map[moss.NetworkMode]moss.Class{"nosuch": moss.NotFound, "container:x": moss.NotImplemented} {
			if _, err := r.Networks().Attach(t.Context(), networkContainer(mode)); err == nil || moss.ClassOf(err) != class {
				t.Errorf("%s: %v, want %v", mode, err, class)
			}
		}
	})

	t.Run("addresses", func(t *testing.T) {
		r := open(t)
		first := networkContainer(moss.NetworkBridge)
		a := attach(t, r, first)
		if !a.Address.Masked().Contains(a.Gateway) || a.Gateway == a.Address.Addr() || a.MAC == "" {
			t.Errorf("attachment %+v", a)
		}
		second := networkContainer(moss.NetworkBridge)
		b := attach(t, r, second)
		if a.Address == b.Address || a.MAC == b.MAC || a.Endpoint == b.Endpoint {
			t.Errorf("two containers have the same: %+v %+v", a, b)
		}
		detach(t, r, first, a)
		third := networkContainer(moss.NetworkBridge)
		c := attach(t, r, third)
		if c.Address == b.Address {
			t.Errorf("address %v is given twice", c.Address)
		}
		// A container that is attached again has one place, not two.
		again := attach(t, r, third)
		detach(t, r, third, c)
		detach(t, r, third, again)
		detach(t, r, second, b)
	})

	t.Run("many at once", func(t *testing.T) {
		r := open(t)
		var mu sync.Mutex
		seen := map[netip.Prefix]bool{}
		var wg sync.WaitGroup
		for range 16 {
			c := networkContainer(moss.NetworkBridge)
			wg.Go(func() {
				a, err := r.Networks().Attach(t.Context(), c)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[a.Address] {
					t.Errorf("address %v is given twice", a.Address)
				}
				seen[a.Address] = true
				mu.Unlock()
				ports, err := r.Networks().Publish(t.Context(), c.ID, a, []moss.PortBinding{tcp(80, 0)})
				if err != nil {
					t.Error(err)
				}
				a.Published = ports
				mu.Lock()
				delete(seen, a.Address)
				mu.Unlock()
				if err := r.Networks().Detach(t.Context(), c.ID, a); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if left := r.Left(t); len(left) > 0 {
			t.Errorf("left over: %q", left)
		}
	})

	t.Run("publish", func(t *testing.T) {
		r := open(t)
		c := networkContainer(moss.NetworkBridge)
		a := attach(t, r, c)
		local := tcp(80, 0)
		local.HostIP = netip.MustParseAddr("127.0.0.1")
		udp := moss.PortBinding{Port: moss.Port{Number: 53, Proto: moss.UDP}}
		ports, err := r.Networks().Publish(t.Context(), c.ID, a, []moss.PortBinding{local, tcp(81, 0), udp})
		if err != nil {
			t.Fatal(err)
		}
		var onLocal, onAll4 int
		for _, p := range ports {
			if p.Binding.HostPort == 0 || !p.Binding.HostIP.IsValid() {
				t.Errorf("published without port or address: %+v", p)
			}
			switch p.Binding.HostIP {
			case local.HostIP:
				onLocal++
			case netip.IPv4Unspecified():
				onAll4++
			}
		}
		if onLocal != 1 || onAll4 != 2 {
			t.Errorf("published %+v", ports)
		}
		// The very port again: taken.
		other := networkContainer(moss.NetworkBridge)
		b := attach(t, r, other)
		if _, err := r.Networks().Publish(t.Context(), other.ID, b, []moss.PortBinding{tcp(80, 0), ports[0].Binding}); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("a published port was published again: %v", err)
		}
		// Without the record of what was published, after a crash in between.
		detach(t, r, c, a)
		if _, err := r.Networks().Publish(t.Context(), other.ID, b, []moss.PortBinding{ports[0].Binding}); err != nil {
			t.Errorf("a port of a container that is gone: %v", err)
		}
		detach(t, r, other, b)
		none, err := r.Networks().Publish(t.Context(), c.ID, moss.Attachment{Mode: moss.NetworkHost}, nil)
		if err != nil || len(none) != 0 {
			t.Errorf("nothing to publish: %v, %v", none, err)
		}
	})

	t.Run("publish one of a range", func(t *testing.T) {
		r := open(t)
		c := networkContainer(moss.NetworkBridge)
		a := attach(t, r, c)
		// Two ports, whichever the machine has free beside each other.
		var first uint16
		var ports []moss.PublishedPort
		for tries := 0; ; tries++ {
			probe, err := r.Networks().Publish(t.Context(), c.ID, a, []moss.PortBinding{tcp(80, 0)})
			if err != nil {
				t.Fatal(err)
			}
			first = probe[0].Binding.HostPort
			detach(t, r, c, moss.Attachment{Mode: a.Mode, NetNS: a.NetNS, Sandbox: a.Sandbox, Interface: a.Interface, Published: probe})
			a = attach(t, r, c)
			one := tcp(81, first)
			one.HostIP = netip.IPv4Unspecified()
			within := tcp(80, first)
			within.HostIP, within.HostPortEnd = one.HostIP, first+1
			// The range is named first, and yet whoever has no choice gets what it asks for.
			if ports, err = r.Networks().Publish(t.Context(), c.ID, a, []moss.PortBinding{within, one}); err == nil {
				break
			} else if tries == 10 || moss.ClassOf(err) != moss.Conflict {
				t.Fatal(err)
			}
		}
		got := map[uint16]uint16{}
		for _, p := range ports {
			got[p.Binding.Port.Number] = p.Binding.HostPort
			if p.Binding.HostPortEnd != 0 || p.Binding.HostIP != netip.IPv4Unspecified() {
				t.Errorf("published %+v", p)
			}
		}
		if len(ports) != 2 || got[81] != first || got[80] != first+1 {
			t.Errorf("published %+v, asked for %d and one of %[2]d-%d", ports, first, first+1)
		}
		// All of them are taken now.
		other := networkContainer(moss.NetworkBridge)
		b := attach(t, r, other)
		before := len(r.Left(t))
		within := tcp(80, first)
		within.HostPortEnd = first + 1
		if _, err := r.Networks().Publish(t.Context(), other.ID, b, []moss.PortBinding{within}); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("a range without a free port: %v", err)
		}
		if left := r.Left(t); len(left) != before {
			t.Errorf("left over after the failure: %q", left)
		}
		for _, wrong := range []moss.PortBinding{{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostPortEnd: 9}, {Port: moss.Port{Number: 80, Proto: moss.TCP}, HostPort: 9, HostPortEnd: 8}} {
			if _, err := r.Networks().Publish(t.Context(), other.ID, b, []moss.PortBinding{wrong}); moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
		detach(t, r, other, b)
		a.Published = ports
		detach(t, r, c, a)
	})

	t.Run("publish all or none", func(t *testing.T) {
		r := open(t)
		c := networkContainer(moss.NetworkBridge)
		a := attach(t, r, c)
		before := len(r.Left(t))
		for _, tc := range []struct {
			binding moss.PortBinding
			class   moss.Class
			words   string
		}{
			{tcp(80, r.Busy(t)), moss.Conflict, "address already in use"},
			{tcp(80, r.Privileged(t)), moss.Forbidden, "ip_unprivileged_port_start"},
			{moss.PortBinding{Port: moss.Port{Number: 80, Proto: moss.SCTP}}, moss.NotImplemented, "sctp"},
			{moss.PortBinding{Port: moss.Port{Number: 80, Proto: "x"}}, moss.Invalid, "protocol"},
		} {
			if tc.class == moss.Forbidden && tc.binding.HostPort == 0 {
				continue
			}
			_, err := r.Networks().Publish(t.Context(), c.ID, a, []moss.PortBinding{tcp(81, 0), tc.binding})
			if err == nil || moss.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("%+v: got %v (%v), want %v with %q", tc.binding, err, moss.ClassOf(err), tc.class, tc.words)
			}
			if left := r.Left(t); len(left) != before {
				t.Errorf("%+v: left over after the failure: %q", tc.binding, left)
			}
		}
		detach(t, r, c, a)
	})

	t.Run("restore", func(t *testing.T) {
		r := open(t)
		stay, gone, plain := networkContainer(moss.NetworkBridge), networkContainer(moss.NetworkBridge), networkContainer(moss.NetworkNone)
		a, b, n := attach(t, r, stay), attach(t, r, gone), attach(t, r, plain)
		var err error
		if a.Published, err = r.Networks().Publish(t.Context(), stay.ID, a, []moss.PortBinding{tcp(80, 0)}); err != nil {
			t.Fatal(err)
		}
		kept := len(r.Left(t)) - 2 // without gone's namespace and link
		if _, err := r.Networks().Publish(t.Context(), gone.ID, b, []moss.PortBinding{tcp(80, 0)}); err != nil {
			t.Fatal(err)
		}
		next := r.Again(t)
		if err := next.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{stay.ID: a, plain.ID: n}); err != nil {
			t.Fatal(err)
		}
		if left := r.Left(t); len(left) != kept {
			t.Errorf("after the restore there is %q, want %d of them", left, kept)
		}
		fresh := networkContainer(moss.NetworkBridge)
		f, err := next.Attach(t.Context(), fresh)
		if err != nil {
			t.Fatal(err)
		}
		if f.Address == a.Address {
			t.Errorf("address %v of a running container is given away", f.Address)
		}
		if _, err := next.Publish(t.Context(), fresh.ID, f, []moss.PortBinding{a.Published[0].Binding}); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("a port of a running container is given away: %v", err)
		}
		for id, att := range map[moss.ContainerID]moss.Attachment{stay.ID: a, plain.ID: n, fresh.ID: f, gone.ID: b} {
			if err := next.Detach(t.Context(), id, att); err != nil {
				t.Errorf("detach: %v", err)
			}
		}
		if left := r.Left(t); len(left) > 0 {
			t.Errorf("left over: %q", left)
		}
	})
}

func networkContainer(mode moss.NetworkMode) *moss.Container {
	return &moss.Container{ID: moss.ContainerID(moss.NewHexID()), Name: "web", Host: moss.HostConfig{NetworkMode: mode}}
}

func tcp(port, host uint16) moss.PortBinding {
	return moss.PortBinding{Port: moss.Port{Number: port, Proto: moss.TCP}, HostPort: host}
}

func attach(t *testing.T, r NetworksRig, c *moss.Container) moss.Attachment {
	t.Helper()
	a, err := r.Networks().Attach(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// detach takes a container away and looks that nothing of it is left.
func detach(t *testing.T, r NetworksRig, c *moss.Container, a moss.Attachment) {
	t.Helper()
	if err := r.Networks().Detach(context.WithoutCancel(t.Context()), c.ID, a); err != nil {
		t.Fatal(err)
	}
	for _, left := range r.Left(t) {
		if strings.Contains(left, c.ID.Short()) || a.Address.IsValid() && strings.Contains(left, a.Address.Addr().String()+":") {
			t.Errorf("left over after detach: %s", left)
		}
	}
}
