package holder

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A published port's connection to a container is made from the client's own
// address, which is not the namespace's. The container's replies to it would
// leave by the default route. So: our sockets carry markOut, conntrack remembers
// it for the connection, and packets of such a connection that arrive get
// markBack, which policy routing delivers locally whatever their destination.
//
// Table, marks and priority are this package's; package network must not use
// them.
const (
	markOut    = 0x6d6f7331 // "mos1"
	markBack   = 0x6d6f7332
	routeTable = 0x6d6f
	rulePrio   = 90
	nftTable   = "moss-source-address"
)

// setupSourceRouting makes replies to foreign addresses of published ports find
// back. It runs on a thread in the network namespace; the libraries' own ways to
// enter one cannot leave it again, the host's being out of bounds for us. It may
// be repeated.
func setupSourceRouting() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find the loopback device: %w", err)
	}
	if err := routeLocally(h, lo, netlink.FAMILY_V4, &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}); err != nil {
		return err
	}
	// A kernel without IPv6 keeps IPv4 clients' addresses nevertheless.
	if err := routeLocally(h, lo, netlink.FAMILY_V6, &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}); err != nil &&
		!errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EACCES) {
		return err
	}
	// Servers in the namespace itself answer from accepted sockets, which take
	// over the mark only with this.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fwmark_accept", []byte("1"), 0); err != nil {
		return fmt.Errorf("cannot set tcp_fwmark_accept: %w", err)
	}
	return markConnections()
}

func routeLocally(h *netlink.Handle, lo netlink.Link, family int, all *net.IPNet) error {
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: all, Table: routeTable, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Family: family,
	}
	if err := h.RouteReplace(route); err != nil {
		return fmt.Errorf("cannot add a local route: %w", err)
	}
	rule := netlink.NewRule()
	rule.Family, rule.Mark, rule.Table, rule.Priority = family, markBack, routeTable, rulePrio
	return addRule(h, rule)
}

// addRule adds a routing rule; one that is there is no error.
func addRule(h *netlink.Handle, rule *netlink.Rule) error {
	if err := h.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot add a routing rule: %w", err)
	}
	return nil
}

func markConnections() error {
	return replaceTable(nftTable, func(c *nftables.Conn, table *nftables.Table) {
		out := c.AddChain(&nftables.Chain{
			Name: "output", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle,
		})
		in := c.AddChain(&nftables.Chain{
			Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle,
		})
		// meta mark markOut ct mark set markOut
		c.AddRule(&nftables.Rule{Table: table, Chain: out, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(markOut)},
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
		}})
		c.AddRule(&nftables.Rule{Table: table, Chain: in, Exprs: deliverHere(markOut)})
	})
}

// deliverHere is: ct mark MARK meta mark set markBack.
func deliverHere(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(markBack)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

// replaceTable has a table with what fill puts into it, in one transaction, whatever was.
func replaceTable(name string, fill func(*nftables.Conn, *nftables.Table)) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	defer func() { _ = c.CloseLasting() }() // what counts was flushed
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: name}
	c.AddTable(table) // so that it is there to be deleted
	c.DelTable(table)
	c.AddTable(table)
	fill(c, table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot set nftables rules: %w", err)
	}
	return nil
}
