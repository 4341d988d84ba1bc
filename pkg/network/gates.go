package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// A published port listens on the host. Containers reach it there by the host's
// own addresses, as everybody does. Those that take their gateway for the host,
// which with docker it is, are led to the container by maps of this table: one
// for each family, from protocol and port to the container's address and port.
// It is apart from the packet filter's table because a port comes and goes with
// each container, and the filter with the networks only.
const gateTable = "moss-ports"

var gateMaps = map[bool]string{false: "gates4", true: "gates6"} // by whether it is IPv6

// The kernel's names for what google/nftables has none (linux/netfilter/nf_tables.h).
const (
	metaKeyIIFKind = expr.MetaKey(26)
	metaKeyOIFKind = expr.MetaKey(27)
	ctStatusDNAT   = 1 << 5 // IPS_DST_NAT
)

// gate is one way from the gateways of all networks to a container.
type gate struct {
	proto moss.Protocol
	port  uint16
	to    netip.AddrPort
	v6    bool
}

// gates are the ways that published ports ask for: those at all the host's
// addresses of a family, where the container has one of that family.
func gates(a moss.Attachment, open []moss.PublishedPort) []gate {
	var out []gate
	for _, p := range open {
		to := target(a, p.Binding.HostIP)
		if p.Binding.HostIP.IsUnspecified() && to.IsValid() && to.Is4() == p.Binding.HostIP.Is4() {
			out = append(out, gate{
				proto: p.Binding.Port.Proto, port: p.Binding.HostPort, to: netip.AddrPortFrom(to, p.Binding.Port.Number), v6: to.Is6(),
			})
		}
	}
	return out
}

func (g gate) element() nftables.SetElement {
	proto := byte(unix.IPPROTO_TCP)
	if g.proto == moss.UDP {
		proto = unix.IPPROTO_UDP
	}
	padded := func(port uint16) []byte { return append(binaryutil.BigEndian.PutUint16(port), 0, 0) }
	return nftables.SetElement{
		Key: append([]byte{proto, 0, 0, 0}, padded(g.port)...),
		Val: append(g.to.Addr().AsSlice(), padded(g.to.Port())...),
	}
}

func gateSet(t *nftables.Table, v6 bool) (*nftables.Set, error) {
	addr := nftables.TypeIPAddr
	if v6 {
		addr = nftables.TypeIP6Addr
	}
	key, err := nftables.ConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	if err != nil {
		return nil, err
	}
	data, err := nftables.ConcatSetType(addr, nftables.TypeInetService)
	return &nftables.Set{Table: t, Name: gateMaps[v6], IsMap: true, Concatenation: true, KeyType: key, DataType: data}, err
}

// setGates makes the table anew with these gates, in the calling thread's namespace.
func setGates(all []gate) error {
	return gateTransaction(func(c *nftables.Conn, t *nftables.Table) error {
		c.AddTable(t)
		c.DelTable(t)
		c.AddTable(t)
		in := c.AddChain(&nftables.Chain{
			Name: "prerouting", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		})
		post := c.AddChain(&nftables.Chain{
			Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		})
		for _, v6 := range []bool{false, true} {
			set, err := gateSet(t, v6)
			if err != nil {
				return err
			}
			var elements []nftables.SetElement
			for _, g := range all {
				if g.v6 == v6 {
					elements = append(elements, g.element())
				}
			}
			if err := c.AddSet(set, elements); err != nil {
				return err
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: leadIn(set, v6)})
		}
		// Or the container would answer past us: the one who asks may be its neighbour, or itself.
		c.AddRule(&nftables.Rule{Table: t, Chain: post, Exprs: append(append(dnatted(), ofKind(metaKeyOIFKind)...), &expr.Masq{})})
		return nil
	})
}

// leadIn is: iifkind bridge fib daddr type local dnat to (l4proto . dport map).
func leadIn(set *nftables.Set, v6 bool) []expr.Any {
	family, portRegister := byte(unix.NFPROTO_IPV4), uint32(unix.NFT_REG32_01)
	if v6 {
		family, portRegister = unix.NFPROTO_IPV6, unix.NFT_REG32_04
	}
	return slices.Concat(ofKind(metaKeyIIFKind), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set.Name, SetID: set.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: 1, RegProtoMin: portRegister, Specified: true},
	})
}

func ofKind(key expr.MetaKey) []expr.Any {
	kind := make([]byte, unix.IFNAMSIZ)
	copy(kind, "bridge")
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: kind}}
}

// dnatted is: ct status dnat.
func dnatted() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(ctStatusDNAT), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// openGates notes a container's gates and adds them to the table.
func (n *Networks) openGates(id moss.ContainerID, some []gate) error {
	if len(some) == 0 {
		return nil
	}
	n.mu.Lock()
	n.gates[id] = append(slices.Clone(n.gates[id]), some...)
	n.mu.Unlock()
	return n.changeGates(some, (*nftables.Conn).SetAddElements)
}

// closeGates takes a container's gates out of the table.
func (n *Networks) closeGates(id moss.ContainerID) error {
	n.mu.Lock()
	some := n.gates[id]
	delete(n.gates, id)
	n.mu.Unlock()
	if len(some) == 0 {
		return nil
	}
	return n.changeGates(some, (*nftables.Conn).SetDeleteElements)
}

func (n *Networks) changeGates(some []gate, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	byFamily := map[bool][]nftables.SetElement{}
	for _, g := range some {
		byFamily[g.v6] = append(byFamily[g.v6], g.element())
	}
	err := inNetNS(n.cfg.NetNS, func() error {
		if err := quietBridges(); err != nil {
			return err
		}
		return gateTransaction(func(c *nftables.Conn, t *nftables.Table) error {
			for v6, elements := range byFamily {
				set, err := gateSet(t, v6)
				if err == nil {
					err = change(c, set, elements)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil { // the table is not what we made it: make it so
		return n.resetGates()
	}
	return nil
}

// resetGates makes the table anew with all gates there are.
func (n *Networks) resetGates() error {
	n.mu.Lock()
	var all []gate
	for _, id := range slices.Sorted(maps.Keys(n.gates)) {
		all = append(all, n.gates[id]...)
	}
	n.mu.Unlock()
	return inNetNS(n.cfg.NetNS, func() error { return setGates(all) })
}

// quietBridges keeps frames within a bridge out of the filter's hooks, through
// which the module br_netfilter, once anyone has loaded it, sends them in every
// namespace: a gate that leads a container to itself would end at its own port
// of the bridge, and all traffic in a network would be slower.
func quietBridges() error {
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"} {
		if err := setSysctl("net/bridge/"+name, "0"); err != nil {
			return err
		}
	}
	return nil
}

// gateTransaction gives the kernel what fill puts into it, at once or not at all.
func gateTransaction(fill func(*nftables.Conn, *nftables.Table) error) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	err = fill(c, &nftables.Table{Family: nftables.TableFamilyINet, Name: gateTable})
	if err == nil {
		err = c.Flush()
	}
	if err = ended(c, err); err != nil {
		return fmt.Errorf("cannot lead the gateway's ports to containers: %w", err)
	}
	return nil
}
