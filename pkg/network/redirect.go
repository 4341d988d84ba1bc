package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// dnsPort is where resolvers ask.
const dnsPort = 53

// redirect leads what goes to addr's port 53, in the calling thread's network
// namespace, to other ports of the same address.
func redirect(addr netip.Addr, udp, tcp uint16) error {
	err := redirectNew(addr, udp, tcp, false)
	if errors.Is(err, unix.EEXIST) { // of sockets that are gone
		err = redirectNew(addr, udp, tcp, true)
	}
	if err != nil {
		return fmt.Errorf("cannot lead name queries to the resolver: %w", err)
	}
	return nil
}

// redirectNew replaces what there is only where it is told to: the kernel waits
// milliseconds for those who may use what goes.
func redirectNew(addr netip.Addr, udp, tcp uint16, replace bool) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: table}
	if replace {
		conn.DelTable(t)
	}
	conn.CreateTable(t)
	chain := conn.AddChain(&nftables.Chain{
		Table: t, Name: "resolver", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	for _, p := range []struct {
		proto byte
		to    uint16
	}{{unix.IPPROTO_UDP, udp}, {unix.IPPROTO_TCP, tcp}} {
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr.AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p.proto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(dnsPort)},
			&expr.Immediate{Register: 1, Data: addr.AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(p.to)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
		}})
	}
	err = conn.Flush()
	if closed := conn.CloseLasting(); err == nil {
		err = closed
	}
	return err
}
