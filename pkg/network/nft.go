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

// mostElements is how many elements fit into one message, whose attributes are of 64 kB.
const mostElements = 500

// elements are what is in the set, for the kernel.
func (s Set) elements() []nftables.SetElement {
	var elements []nftables.SetElement
	for _, l := range s.Links {
		key := linkKey(l)
		if s.Type == setPairs {
			key = append(key, key...)
		}
		elements = append(elements, nftables.SetElement{Key: key})
	}
	for _, p := range s.Prefixes {
		elements = append(elements,
			nftables.SetElement{Key: p.Masked().Addr().AsSlice()},
			nftables.SetElement{Key: past(p), IntervalEnd: true})
	}
	return elements
}

// kernel is the set itself, for the kernel, in a table.
func (s Set) kernel(t *nftables.Table) *nftables.Set {
	set := &nftables.Set{Table: t, Name: s.Name}
	switch s.Type {
	case setLinks:
		set.KeyType = nftables.TypeIFName
	case setPairs:
		set.KeyType, set.Concatenation = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName), true
	case setPrefixes4:
		set.KeyType, set.Interval = nftables.TypeIPAddr, true
	case setPrefixes6:
		set.KeyType, set.Interval = nftables.TypeIP6Addr, true
	}
	return set
}

func linkKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// past is the address behind a prefix, where the interval ends.
func past(p netip.Prefix) []byte {
	a := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(a)*8; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	for i := len(a) - 1; i >= 0; i-- {
		if a[i]++; a[i] != 0 {
			break
		}
	}
	return a
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting": nftables.ChainHookPrerouting, "input": nftables.ChainHookInput, "forward": nftables.ChainHookForward, "postrouting": nftables.ChainHookPostrouting,
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
	in, out := &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}
	var all []expr.Any
	lookup := func(set string, load ...expr.Any) {
		if set != "" {
			all = append(append(all, load...), &expr.Lookup{SourceRegister: 1, SetName: set})
		}
	}
	if r.Link != "" {
		all = append(all, in, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: linkKey(r.Link)})
	}
	lookup(r.In, in)
	lookup(r.Out, out)
	lookup(r.Pair, in, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 2})
	if r.Source != "" {
		if r.Source == outward6 {
			lookup(r.Source, loadAddress(unix.NFPROTO_IPV6, sourceOffset6, net.IPv6len)...)
		} else {
			lookup(r.Source, loadAddress(unix.NFPROTO_IPV4, sourceOffset, net.IPv4len)...)
		}
	}
	all = append(all, address(destinationOffset, destinationOffset6, r.Destination)...)
	if len(r.States) > 0 {
		var mask uint32
		for _, s := range r.States {
			mask |= states[s]
		}
		all = append(
			all,
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		)
	}
	if r.Led {
		all = append(all, dnatted()...)
	}
	all = append(all, asking(r.Asks)...)
	if r.By != "" {
		all = append(
			all,
			&expr.Fib{Register: 1, ResultOIFNAME: true, FlagDADDR: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: linkKey(r.By)},
		)
	}
	if r.Mark != 0 {
		all = append(
			all,
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(r.Mark)},
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
		)
	}
	return append(all, verdicts[r.Verdict])
}

// asking is: tcp flags & (fin|syn|rst|ack) == syn, or !=, both of TCP only.
func asking(a Asking) []expr.Any {
	const flagsOffset, flags, syn = 13, 0x17, 0x02
	if a == "" {
		return nil
	}
	op := expr.CmpOpEq
	if a == asksNone {
		op = expr.CmpOpNeq
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{flags}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{syn}},
	}
}

// loadAddress loads an address of a header into the first register; in an inet
// table the family must be asked for first.
func loadAddress(family byte, offset, length uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
	}
}

// address matches a prefix.
func address(offset, offset6 uint32, p netip.Prefix) []expr.Any {
	if !p.IsValid() {
		return nil
	}
	ip := p.Masked().Addr().AsSlice()
	length, proto := uint32(len(ip)), byte(unix.NFPROTO_IPV4)
	if p.Addr().Is6() {
		offset, proto = offset6, unix.NFPROTO_IPV6
	}
	return append(
		loadAddress(proto, offset, length),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: net.CIDRMask(p.Bits(), len(ip)*8), Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ip},
	)
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
