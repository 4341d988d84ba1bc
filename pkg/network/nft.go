package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// apply replaces our table by s, at once or not at all, in the calling thread's
// network namespace.
func apply(s Ruleset) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("cannot open nftables: %w", err)
	}
	queue(conn, s)
	err = conn.Flush()
	if closed := conn.CloseLasting(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("cannot set the packet filter: %w", err)
	}
	return nil
}

// queue puts s into conn's next transaction.
func queue(conn *nftables.Conn, s Ruleset) {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: table}
	// Added first so that there is one to delete.
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
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
}

var hooks = map[string]*nftables.ChainHook{
	"input": nftables.ChainHookInput, "forward": nftables.ChainHookForward, "postrouting": nftables.ChainHookPostrouting,
}

var verdicts = map[string]expr.Any{
	"accept": &expr.Verdict{Kind: expr.VerdictAccept}, "drop": &expr.Verdict{Kind: expr.VerdictDrop}, "masquerade": &expr.Masq{},
}

var states = map[string]uint32{
	"new": expr.CtStateBitNEW, "established": expr.CtStateBitESTABLISHED, "related": expr.CtStateBitRELATED,
}

// Offsets of the addresses in an IPv4 and in an IPv6 header, in bytes.
const (
	sourceOffset       = 12
	destinationOffset  = 16
	sourceOffset6      = 8
	destinationOffset6 = 24
)

func (r Rule) exprs() []expr.Any {
	var out []expr.Any
	out = append(out, iface(expr.MetaKeyIIFNAME, expr.CmpOpEq, r.In)...)
	out = append(out, iface(expr.MetaKeyOIFNAME, expr.CmpOpEq, r.Out)...)
	out = append(out, iface(expr.MetaKeyIIFNAME, expr.CmpOpNeq, r.NotIn)...)
	out = append(out, iface(expr.MetaKeyOIFNAME, expr.CmpOpNeq, r.NotOut)...)
	out = append(out, address(sourceOffset, sourceOffset6, r.Source)...)
	out = append(out, address(destinationOffset, destinationOffset6, r.Destination)...)
	if len(r.States) > 0 {
		var mask uint32
		for _, s := range r.States {
			mask |= states[s]
		}
		out = append(
			out,
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		)
	}
	if r.Led {
		out = append(out, dnatted()...)
	}
	return append(out, verdicts[r.Verdict])
}

func iface(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	if name == "" {
		return nil
	}
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

// address matches a prefix; in an inet table the family must be asked for first.
func address(offset, offset6 uint32, p netip.Prefix) []expr.Any {
	if !p.IsValid() {
		return nil
	}
	ip := p.Masked().Addr().AsSlice()
	length, proto := uint32(len(ip)), byte(unix.NFPROTO_IPV4)
	if p.Addr().Is6() {
		offset, proto = offset6, unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: net.CIDRMask(p.Bits(), len(ip)*8), Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ip},
	}
}

// hasTable tells whether a table is there, in the calling thread's namespace.
func hasTable(name string) (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("cannot open nftables: %w", err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("cannot read the packet filter: %w", err)
	}
	for _, t := range tables {
		if t.Name == name {
			return true, nil
		}
	}
	return false, nil
}
