package network

import (
	"errors"
	"fmt"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	standInName  = "bridge" + resolverSuffix // in Sockets
	standInTable = "moss-names"              // in the packet filter, of family ip
)

// heedUpstreams has the stand-in come and go with the host's name servers.
func (n *Networks) heedUpstreams() error {
	if !n.driverNames() {
		return nil
	}
	var err error
	// What fails here fails again where a container comes next, and is told there.
	n.unwatch, err = n.upstreams.watch(func() { _ = n.standIn() })
	if err != nil {
		n.notes = append(n.notes, fmt.Sprintf("WARNING: Running containers on the default bridge may have no names should the host come to have its name servers by IPv6 only: %v", err))
	}
	return nil
}

// driverNames says whether containers on the default bridge ask the name server of the holder's driver.
func (n *Networks) driverNames() bool {
	return !n.cfg.NoBridge && len(n.cfg.Upstreams) == 0 && len(n.cfg.DNS) > 0 && n.cfg.DNS[0].Is4()
}

// standIn has the engine answer in the place of the driver's name server while the host
// has its name servers by IPv6 only, which that one does not ask: what goes there from the
// default bridge is led to a resolver at the bridge. Containers need not be told.
func (n *Networks) standIn() error {
	if !n.driverNames() {
		return nil
	}
	n.naming.Lock()
	defer n.naming.Unlock()
	p := n.placeOf(networkID(moss.NetworkBridge))
	if wanted := p != nil && n.upstreams.only6(); !wanted {
		return n.endStandIn()
	}
	if n.stand != nil {
		return nil
	}
	var at redirection
	socks, err := n.resolverSockets(standInName, p.Gateway, func() (s resolverSockets, err error) {
		if err = inNetNS(n.cfg.NetNS, func() error { return s.listen(p.Gateway) }); err != nil {
			err = errors.Join(err, s.close())
		}
		return s, err
	})
	if err == nil {
		at = redirection{table: standInTable, link: Bridge, from: n.cfg.DNS[0], to: p.Gateway, udp: socks.udpAddr().Port(), tcp: socks.tcpPort()}
		n.stand, err = n.serve("", &resolverView{forward: true}, socks)
	}
	if err == nil {
		err = inNetNS(n.cfg.NetNS, at.set)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot serve names in the place of the network driver: %w", err), n.endStandIn())
	}
	return nil
}

// endStandIn leaves the names to the driver; the caller holds naming.
func (n *Networks) endStandIn() error {
	if n.stand == nil && n.looked {
		return nil
	}
	n.looked = true // for what an earlier daemon left
	err := inNetNS(n.cfg.NetNS, redirection{table: standInTable}.unset)
	if n.stand != nil {
		err = errors.Join(err, n.stand.close())
		n.stand = nil
	}
	err = errors.Join(err, n.storedSockets(standInName).close())
	if n.cfg.Sockets != nil {
		err = errors.Join(err, n.cfg.Sockets.Remove(standInName))
	}
	return err
}

func (n *Networks) closeStandIn() error {
	n.naming.Lock()
	defer n.naming.Unlock()
	if n.stand == nil {
		return nil
	}
	defer func() { n.stand = nil }()
	return n.stand.close()
}
