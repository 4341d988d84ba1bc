package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// dnsPort is where resolvers ask.
const dnsPort = 53

// redirection leads what goes to an address's port 53 to a resolver's sockets: what is
// sent in the namespace itself, or what comes in by a link.
type redirection struct {
	table    string
	link     string // "" for what is sent
	from, to netip.Addr
	udp, tcp uint16
}

// ofContainer leads a container's own queries to sockets of the same address.
func ofContainer(udp, tcp uint16) redirection {
	return redirection{table: table, from: moss.ResolverAddr, to: moss.ResolverAddr, udp: udp, tcp: tcp}
}

// set puts the redirection into the calling thread's network namespace.
func (r redirection) set() error {
	err := r.setNew(false)
	if errors.Is(err, unix.EEXIST) { // of sockets that are gone
		err = r.setNew(true)
	}
	if err != nil {
		return fmt.Errorf("cannot lead name queries to the resolver: %w", err)
	}
	return nil
}

// setNew replaces what there is only where it is told to: the kernel waits
// milliseconds for those who may use what goes.
func (r redirection) setNew(replace bool) error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	t := r.kernel()
	if replace {
		conn.DelTable(t)
	}
	conn.CreateTable(t)
	hook := nftables.ChainHookOutput
	if r.link != "" {
		hook = nftables.ChainHookPrerouting
	}
	chain := conn.AddChain(&nftables.Chain{
		Table: t, Name: "resolver", Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityNATDest,
	})
	conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.exprs(unix.IPPROTO_UDP, r.udp)})
	conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.exprs(unix.IPPROTO_TCP, r.tcp)})
	return ended(conn, conn.Flush())
}

// unset takes the redirection away; nil where there is none.
func (r redirection) unset() error {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	conn.AddTable(r.kernel()) // so that there is one
	conn.DelTable(r.kernel())
	return ended(conn, conn.Flush())
}

func (r redirection) kernel() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: r.table}
}

// exprs are: [iifname LINK] ip daddr FROM PROTO dport 53 dnat to TO:PORT.
func (r redirection) exprs(proto byte, port uint16) []expr.Any {
	var all []expr.Any
	if r.link != "" {
		all = []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: linkKey(r.link)}}
	}
	return append(
		all,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destinationOffset, Len: 4},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: r.from.AsSlice()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(dnsPort)},
		&expr.Immediate{Register: 1, Data: r.to.AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	)
}
