package porttest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// NetworkMaker runs the contract suite of [engine.NetworkMaker], which the rig's
// [engine.Networks] have as well. open is called once a test.
func NetworkMaker(t *testing.T, open func(t *testing.T) NetworksRig) {
	maker := func(t *testing.T, n engine.Networks) engine.NetworkMaker {
		t.Helper()
		m, ok := n.(engine.NetworkMaker)
		if !ok {
			t.Fatalf("%T makes no networks", n)
		}
		return m
	}
	create := func(t *testing.T, m engine.NetworkMaker, n moss.Network) moss.Network {
		t.Helper()
		n.ID = moss.NetworkID(moss.NewHexID())
		made, err := m.Create(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	listed := func(t *testing.T, n engine.Networks, id moss.NetworkID) bool {
		t.Helper()
		all, err := n.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(n moss.Network) bool { return n.ID == id })
	}
	wantClass := func(t *testing.T, what string, err error, class moss.Class) {
		t.Helper()
		if err == nil || moss.ClassOf(err) != class {
			t.Errorf("%s: got %v (%v), want %v", what, err, moss.ClassOf(err), class)
		}
	}

	t.Run("create completes what is asked for", func(t *testing.T) {
		r := open(t)
		m := maker(t, r.Networks())
		a := create(t, m, moss.Network{Name: "a"})
		b := create(t, m, moss.Network{Name: "b", Subnet: netip.MustParsePrefix("10.71.0.0/24"), Gateway: netip.MustParseAddr("10.71.0.9")})
		for _, n := range []moss.Network{a, b} {
			if n.Driver != "bridge" || !n.Subnet.Contains(n.Gateway) || n.Link == "" || !listed(t, r.Networks(), n.ID) {
				t.Errorf("made %+v", n)
			}
		}
		if a.Subnet.Overlaps(b.Subnet) || a.Link == b.Link || b.Gateway.String() != "10.71.0.9" {
			t.Errorf("made %+v and %+v", a, b)
		}
		for what, tc := range map[string]struct {
			net   moss.Network
			class moss.Class
		}{
			"a name in use":   {moss.Network{Name: "a"}, moss.Conflict},
			"a subnet in use": {moss.Network{Name: "c", Subnet: netip.MustParsePrefix("10.71.0.0/28")}, moss.Forbidden},
			"a driver":        {moss.Network{Name: "c", Driver: "macvlan"}, moss.NotImplemented},
		} {
			tc.net.ID = moss.NetworkID(moss.NewHexID())
			_, err := m.Create(t.Context(), tc.net)
			wantClass(t, what, err, tc.class)
			if listed(t, r.Networks(), tc.net.ID) {
				t.Errorf("%s: it is there", what)
			}
		}
		for _, n := range []moss.Network{a, b} {
			if err := m.Remove(t.Context(), n.ID); err != nil || listed(t, r.Networks(), n.ID) {
				t.Errorf("removal of %s: %v", n.Name, err)
			}
			wantClass(t, "a network that is gone", m.Remove(t.Context(), n.ID), moss.NotFound)
		}
		// Name and subnet are free again.
		if err := m.Remove(t.Context(), create(t, m, b).ID); err != nil {
			t.Error(err)
		}
	})

	t.Run("connect and disconnect", func(t *testing.T) {
		r := open(t)
		m := maker(t, r.Networks())
		home := create(t, m, moss.Network{Name: "home"})
		further := create(t, m, moss.Network{Name: "further", Subnet: netip.MustParsePrefix("10.72.0.0/24")})
		c := networkContainer("home")
		a := attach(t, r, c)
		wantClass(t, "removal of a network in use", m.Remove(t.Context(), home.ID), moss.Forbidden)
		_, err := m.Connect(t.Context(), c, a, "nosuch", moss.Endpoint{})
		wantClass(t, "a network that is not there", err, moss.NotFound)
		both, err := m.Connect(t.Context(), c, a, "further", moss.Endpoint{Address: netip.MustParseAddr("10.72.0.7")})
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(both.Interfaces(), func(i moss.Interface) bool { return i.Network == further.ID })
		if len(both.Interfaces()) != 2 || at < 0 || both.Interfaces()[at].Address.String() != "10.72.0.7/24" || both.Interfaces()[at].HostLink == a.HostLink {
			t.Errorf("connected: %+v", both)
		}
		other := networkContainer("home")
		b := attach(t, r, other)
		_, err = m.Connect(t.Context(), other, b, string(further.ID), moss.Endpoint{Address: netip.MustParseAddr("10.72.0.7")})
		wantClass(t, "an address in use", err, moss.Forbidden)
		detach(t, r, other, b)
		wantClass(t, "removal of a network somebody was connected to", m.Remove(t.Context(), further.ID), moss.Forbidden)
		one, err := m.Disconnect(t.Context(), c.ID, both, home.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(one.Interfaces()) != 1 || one.Network != further.ID || one.Address.String() != "10.72.0.7/24" {
			t.Errorf("disconnected: %+v", one)
		}
		_, err = m.Disconnect(t.Context(), c.ID, one, home.ID)
		wantClass(t, "a network that it is not in", err, moss.NotFound)
		if err := m.Remove(t.Context(), home.ID); err != nil {
			t.Errorf("nobody is in it any more: %v", err)
		}
		detach(t, r, c, one)
		if err := m.Remove(t.Context(), further.ID); err != nil {
			t.Error(err)
		}
	})

	t.Run("ports of who has no way in", func(t *testing.T) {
		r := open(t)
		m := maker(t, r.Networks())
		home := create(t, m, moss.Network{Name: "home"})
		inner := create(t, m, moss.Network{Name: "inner", Internal: true})
		c := networkContainer("home")
		a := attach(t, r, c)
		ports := []moss.PortBinding{{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostIP: netip.MustParseAddr("127.0.0.1")}}
		publish := func(a moss.Attachment) moss.Attachment {
			t.Helper()
			var err error
			if a.Published, err = r.Networks().Publish(t.Context(), c.ID, a, ports); err != nil {
				t.Fatal(err)
			}
			ports[0].HostPort = a.Published[0].Binding.HostPort // the same again
			return a
		}
		leave := func(a moss.Attachment, n moss.Network) moss.Attachment {
			t.Helper()
			a, err := m.Disconnect(t.Context(), c.ID, a, n.ID)
			if err != nil || len(a.Published) > 0 {
				t.Fatalf("disconnected from %s: %+v, %v", n.Name, a.Published, err)
			}
			return a
		}
		join := func(a moss.Attachment, n moss.Network) moss.Attachment {
			t.Helper()
			a, err := m.Connect(t.Context(), c, a, n.Name, moss.Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
		a = leave(publish(a), home)
		a = publish(join(a, home))
		a = leave(join(a, inner), home)
		a = leave(publish(join(a, home)), home)
		detach(t, r, c, a)
		for _, n := range []moss.Network{home, inner} {
			if err := m.Remove(t.Context(), n.ID); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("adopt", func(t *testing.T) {
		r := open(t)
		m := maker(t, r.Networks())
		kept, lost := create(t, m, moss.Network{Name: "kept"}), create(t, m, moss.Network{Name: "lost"})
		c := networkContainer("kept")
		a := attach(t, r, c)
		next := r.Again(t)
		m = maker(t, next)
		if err := m.Adopt(t.Context(), []moss.Network{kept}); err != nil {
			t.Fatal(err)
		}
		if err := next.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{c.ID: a}); err != nil {
			t.Fatal(err)
		}
		if !listed(t, next, kept.ID) || listed(t, next, lost.ID) {
			t.Error("not the networks of the records")
		}
		wantClass(t, "removal of an adopted network in use", m.Remove(t.Context(), kept.ID), moss.Forbidden)
		if err := next.Detach(t.Context(), c.ID, a); err != nil {
			t.Fatal(err)
		}
		if err := m.Remove(t.Context(), kept.ID); err != nil {
			t.Error(err)
		}
	})
}

// NetworkRecordsRig is what the contract of [engine.NetworkRecords] is tried on: an empty store.
type NetworkRecordsRig interface {
	NetworkRecords() engine.NetworkRecords
	// Reboot is the loss of power.
	Reboot(t *testing.T)
}

// NetworkRecords runs the contract suite of [engine.NetworkRecords]. open is called once a test.
func NetworkRecords(t *testing.T, open func(t *testing.T) NetworkRecordsRig) {
	r := open(t)
	names := func() map[moss.NetworkID]string {
		t.Helper()
		all, bad, err := r.NetworkRecords().LoadNetworks()
		if err != nil || len(bad) > 0 {
			t.Fatalf("load: %v, %v", bad, err)
		}
		out := map[moss.NetworkID]string{}
		for _, n := range all {
			out[n.ID] = n.Name
		}
		return out
	}
	if got := names(); len(got) > 0 {
		t.Errorf("new, and there is %v", got)
	}
	a := moss.Network{
		ID: moss.NetworkID(moss.NewHexID()), Name: "a", Driver: "bridge", Subnet: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("10.1.0.1"),
		Subnet6: netip.MustParsePrefix("fd00::/64"), Reserved: map[string]netip.Addr{"r": netip.MustParseAddr("10.1.0.9")}, Internal: true, Labels: map[string]string{"k": "v"},
	}
	b := moss.Network{ID: moss.NetworkID(moss.NewHexID()), Name: "b"}
	for _, n := range []moss.Network{a, b} {
		if err := r.NetworkRecords().PutNetwork(n); err != nil {
			t.Fatal(err)
		}
	}
	b.Name = "renamed"
	if err := r.NetworkRecords().PutNetwork(b); err != nil {
		t.Fatal(err)
	}
	r.Reboot(t)
	if got := names(); len(got) != 2 || got[a.ID] != "a" || got[b.ID] != "renamed" {
		t.Errorf("after a reboot %v", got)
	}
	all, _, _ := r.NetworkRecords().LoadNetworks() // names has looked
	for _, n := range all {
		if n.ID == a.ID && (n.Subnet != a.Subnet || n.Gateway != a.Gateway || n.Subnet6 != a.Subnet6 || n.Reserved["r"] != a.Reserved["r"] || !n.Internal || n.Labels["k"] != "v") {
			t.Errorf("came back as %+v", n)
		}
	}
	for range 2 { // the second time there is none
		if err := r.NetworkRecords().DeleteNetwork(a.ID); err != nil {
			t.Error(err)
		}
	}
	r.Reboot(t)
	if got := names(); len(got) != 1 || got[b.ID] == "" {
		t.Errorf("after a deletion %v", got)
	}
}
