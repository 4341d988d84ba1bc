package network

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/moss-containers/moss/pkg/moss"
)

// filterTables are the names that the filter's table may have: one is in force,
// that is, has chains; under the other the next one is filled. A transaction of
// a user is as large as his socket's buffer, which the sets of some 2,000
// networks are not.
var filterTables = [2]string{table, table + "-2"}

// setFilter puts s in the place of the filter in force, at once or not at all, in
// the calling thread's network namespace. It returns the table's name.
func setFilter(s Ruleset) (string, error) {
	name := ""
	err := transactions(func(conn *nftables.Conn) error {
		live, err := liveFilter(conn)
		if err != nil {
			return err
		}
		if name = filterTables[0]; live == name {
			name = filterTables[1]
		}
		return replaceFilter(conn, live, name, s)
	})
	return name, err
}

// replaceFilter fills the table next, which binds nobody before its chains are
// there, and then lets it take the place of the one in force, if there is one.
func replaceFilter(conn *nftables.Conn, live, next string, s Ruleset) error {
	t := filterTable(next)
	// Added first so that there is one to delete: that of an engine that was killed.
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
	for _, set := range s.Sets {
		if err := conn.AddSet(set.kernel(t), nil); err != nil {
			return err
		}
	}
	if err := conn.Flush(); err != nil {
		return err
	}
	for _, set := range s.Sets {
		for some := range slices.Chunk(set.elements(), mostElements) {
			if err := conn.SetAddElements(set.kernel(t), some); err != nil {
				return err
			}
			if err := conn.Flush(); err != nil {
				return err
			}
		}
	}
	for _, c := range s.Chains {
		chain := conn.AddChain(&nftables.Chain{
			Name: c.Name, Table: t, Type: nftables.ChainType(c.Type),
			Hooknum: hooks[c.Hook], Priority: new(nftables.ChainPriority(c.Priority)),
			Policy: new(nftables.ChainPolicyAccept),
		})
		for _, r := range c.Rules {
			conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.exprs()})
		}
	}
	if live != "" {
		conn.DelTable(filterTable(live))
	}
	return conn.Flush()
}

// liveFilter is the name of the table in force, "" for none.
func liveFilter(conn *nftables.Conn) (string, error) {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", err
	}
	for _, c := range chains {
		if slices.Contains(filterTables[:], c.Table.Name) {
			return c.Table.Name, nil
		}
	}
	return "", nil
}

// changeSets adds what is in the sets to those of the filter in force, or takes
// it out, at once or not at all.
func changeSets(name string, sets []Set, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	return transactions(func(conn *nftables.Conn) error {
		for _, set := range sets {
			if elements := set.elements(); len(elements) > 0 {
				if err := change(conn, set.kernel(filterTable(name)), elements); err != nil {
					return err
				}
			}
		}
		return conn.Flush()
	})
}

// transactions gives fn a connection to the calling thread's network namespace.
func transactions(fn func(*nftables.Conn) error) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	if err := ended(conn, fn(conn)); err != nil {
		return fmt.Errorf("cannot set the packet filter: %w", err)
	}
	return nil
}

// ended lets go of a connection whose transactions ended with err, which it returns.
// Nobody waits for that: what the transactions took away counts no more, but the kernel
// lets a closed connection wait until no processor can see it, for tens of milliseconds.
func ended(conn *nftables.Conn, err error) error {
	go func() { _ = conn.CloseLasting() }()
	return err
}

func filterTable(name string) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: name}
}

// rules are those for the networks, or none.
func (n *Networks) rules(nets ...moss.Network) Ruleset {
	if n.cfg.NoFilter {
		return Ruleset{}
	}
	return Rules(n.cfg.WayOut, nets...)
}

// filterOne lets a network into the filter in force, or takes it out: the rules
// are the same for all. Should that fail, the filter is made anew, since then it
// is not what we made it.
func (n *Networks) filterOne(net moss.Network, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	sets := n.rules(net).Sets
	if len(sets) == 0 {
		return nil
	}
	if n.filterName == "" { // none has been made, or the last one failed
		return n.filter()
	}
	if err := inNetNS(n.cfg.NetNS, func() error { return changeSets(n.filterName, sets, change) }); err != nil {
		return n.filter()
	}
	return nil
}

// filter gives the kernel the rules for the networks there are; the caller makes
// or removes networks.
func (n *Networks) filter() error {
	n.mu.Lock()
	var nets []moss.Network
	for _, id := range slices.Sorted(maps.Keys(n.places)) {
		nets = append(nets, n.places[id].Network)
	}
	n.mu.Unlock()
	slices.SortStableFunc(nets, func(a, b moss.Network) int {
		if a.Builtin() != b.Builtin() {
			return map[bool]int{true: -1, false: 1}[a.Builtin()]
		}
		return strings.Compare(a.Link, b.Link)
	})
	rules := n.rules(nets...)
	err := inNetNS(n.cfg.NetNS, func() error {
		name, err := setFilter(rules)
		if err != nil {
			name = "" // half-filled, it binds nobody: the next change makes it anew
		}
		n.filterName = name
		return err
	})
	n.mu.Lock()
	n.broken = err
	n.mu.Unlock()
	return err
}

// isolated has a filter in force, before anybody joins a network.
func (n *Networks) isolated() error {
	n.mu.Lock()
	err := n.broken
	n.mu.Unlock()
	if err == nil {
		return nil
	}
	n.making.Lock()
	defer n.making.Unlock()
	if err := n.filter(); err != nil {
		return moss.Errorf(moss.Unavailable, "nothing would keep networks apart: %w", err)
	}
	return nil
}
