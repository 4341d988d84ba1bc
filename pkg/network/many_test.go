package network

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"

	"github.com/moss-containers/moss/pkg/moss"
)

// The filter of very many networks goes to the kernel in parts, as a user's
// sockets are small, and takes the place of the one in force at once.
func TestFilterOfManyNetworks(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	nets := manyNetworks(5000)
	// One table in force at any time, and nothing left of the other; also after an engine that
	// was killed while it filled the next.
	for round, some := range [][]moss.Network{nets, nets[:2500], nil, nets} {
		if err := inNetNS(r.cfg.NetNS, func() error {
			name, err := setFilter(Rules(WayOut{}, some...))
			if err != nil {
				return err
			}
			other := filterTables[0]
			if name == other {
				other = filterTables[1]
			}
			if there, err := hasTable(other); err != nil || there {
				t.Errorf("round %d: the other table is there: %t, %v", round, there, err)
			}
			for _, set := range Rules(WayOut{}, some...).Sets {
				if has := elementsOf(t, name, set); has != len(set.elements()) {
					t.Errorf("round %d: set %s has %d elements, not %d", round, set.Name, has, len(set.elements()))
				}
			}
			return transactions(func(c *nftables.Conn) error {
				if live, err := liveFilter(c); err != nil || live != name {
					t.Errorf("round %d: in force is %q, not %q: %v", round, live, name, err)
				}
				c.AddTable(filterTable(other))
				if err := c.AddSet(Rules(WayOut{}).Sets[0].kernel(filterTable(other)), nil); err != nil {
					return err
				}
				return c.Flush()
			})
		}); err != nil {
			t.Error(err)
		}
	}
	if err := r.n.filter(); err != nil { // again that of the networks there are
		t.Error(err)
	}
}

// A network that comes or goes changes a few elements of the filter in force; what
// somebody else has done to that is mended.
func TestFilterOneNetwork(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	var have []moss.Network
	check := func(what string) {
		t.Helper()
		all := append([]moss.Network{r.n.placeOf(networkID(moss.NetworkBridge)).Network}, have...)
		if err := inNetNS(r.cfg.NetNS, func() error {
			for _, set := range Rules(WayOut{}, all...).Sets {
				if has := elementsOf(t, r.n.filterName, set); has != len(set.elements()) {
					t.Errorf("%s: set %s has %d elements, not %d", what, set.Name, has, len(set.elements()))
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i, net := range manyNetworks(40) {
		net.ID, net.Name, net.IPv6 = moss.NetworkID(moss.NewHexID()), fmt.Sprint("net", i), true
		net.Internal, net.Isolated = i%3 == 0, i%4 == 0
		made, err := r.n.Create(t.Context(), net)
		if err != nil {
			t.Fatal(err)
		}
		have = append(have, made)
	}
	name := r.n.filterName
	check("made")
	for range 20 { // every other one: the subnets touch each other
		at := len(have) % 7
		if err := r.n.Remove(t.Context(), have[at].ID); err != nil {
			t.Fatal(err)
		}
		have = slices.Delete(have, at, at+1)
		check("removed")
	}
	if r.n.filterName != name {
		t.Error("the filter was made anew for one network")
	}
	if err := inNetNS(r.cfg.NetNS, func() error {
		return transactions(func(c *nftables.Conn) error { c.DelTable(filterTable(name)); return c.Flush() })
	}); err != nil {
		t.Fatal(err)
	}
	for len(have) > 0 {
		if err := r.n.Remove(t.Context(), have[0].ID); err != nil {
			t.Fatal(err)
		}
		have = have[1:]
		check("mended")
	}
}

func manyNetworks(count int) []moss.Network {
	var nets []moss.Network
	for i := range count {
		nets = append(nets, moss.Network{
			Link: fmt.Sprintf("br-%012x", i), Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i / 256), byte(i), 0}), 24),
			Subnet6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 5: byte(i / 256), 6: byte(i)}), 64),
		})
	}
	return nets
}

// elementsOf counts what is in a set of the table, in the calling thread's namespace.
func elementsOf(t *testing.T, table string, set Set) int {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	has, err := c.GetSetElements(set.kernel(filterTable(table)))
	if err != nil {
		t.Fatal(err)
	}
	if set.Type == setPrefixes4 || set.Type == setPrefixes6 {
		// The kernel has a mark before the first interval.
		has = slices.DeleteFunc(has, func(e nftables.SetElement) bool {
			return e.IntervalEnd && !slices.ContainsFunc(e.Key, func(b byte) bool { return b != 0 })
		})
	}
	return len(has)
}

func TestPast(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.0.0/24": "10.1.1.0", "10.0.0.0/8": "11.0.0.0", "10.1.255.0/24": "10.2.0.0", "10.0.0.4/30": "10.0.0.8", "fd00::/64": "fd00:0:0:1::", "fd00::1/128": "fd00::2",
	} {
		if got, _ := netip.AddrFromSlice(past(netip.MustParsePrefix(text))); got.String() != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
