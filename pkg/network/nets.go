package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// userLinkPrefix begins the bridges of networks that users made, unless they
// named them themselves.
const userLinkPrefix = "br-"

// place is a bridge network at work.
type place struct {
	moss.Network
	index  int // of the bridge's link
	v4, v6 *ipam
	users  map[moss.ContainerID]string // who has an end point, with its id
	closed bool                        // it is being made or removed: nobody gets in
}

func newPlace(net moss.Network) *place {
	return &place{
		Network: net, users: map[moss.ContainerID]string{},
		v4: newPool(net.Subnet, net.Range, net.Gateway, net.Reserved),
		v6: newPool(net.Subnet6, net.Range6, net.Gateway6, net.Reserved),
	}
}

// List returns the networks there are.
func (n *Networks) List(context.Context) ([]moss.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []moss.Network
	if p := n.places[networkID(moss.NetworkBridge)]; p != nil && !n.cfg.NoBridge {
		out = append(out, p.Network)
	}
	out = append(
		out,
		moss.Network{ID: networkID(moss.NetworkHost), Name: string(moss.NetworkHost), Driver: "host", Created: n.started},
		moss.Network{ID: networkID(moss.NetworkNone), Name: string(moss.NetworkNone), Driver: "null", Created: n.started},
	)
	builtin := len(out)
	for _, p := range n.places {
		if !p.Builtin() && !p.closed {
			out = append(out, p.Network)
		}
	}
	slices.SortStableFunc(out[builtin:], func(a, b moss.Network) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// Create makes a network's bridge, with what the request leaves open: subnets
// that overlap nothing, gateways, the link's name.
func (n *Networks) Create(ctx context.Context, net moss.Network) (moss.Network, error) {
	if err := ctx.Err(); err != nil {
		return net, err
	}
	if net.Driver == "" {
		net.Driver = "bridge"
	}
	if net.Driver != "bridge" {
		return net, refuseDriver(net.Driver)
	}
	n.making.Lock()
	defer n.making.Unlock()
	n.mu.Lock()
	there := n.lookupLocked(net.Name)
	n.mu.Unlock()
	if there != nil {
		return net, moss.Errorf(moss.Conflict, "network with name %s already exists", net.Name)
	}
	if err := n.complete(&net); err != nil {
		return net, err
	}
	p := newPlace(net)
	p.closed = true // until the filter keeps it apart from the others
	n.mu.Lock()
	n.noteLocked(p)
	n.mu.Unlock()
	err := n.setUp(p, nil)
	if err == nil {
		err = n.filterOne(net, (*nftables.Conn).SetAddElements)
	}
	n.mu.Lock()
	p.closed = false
	if err != nil {
		n.forgetLocked(p)
	}
	n.mu.Unlock()
	if err != nil {
		return net, moss.Wrap(errors.Join(err, n.removeLink(net.Link)), "create network", net.Name)
	}
	return net, nil
}

// refuseDriver says why a driver of docker's cannot be had, and what can.
func refuseDriver(driver string) error {
	switch driver {
	case "macvlan", "ipvlan":
		return moss.Errorf(moss.NotImplemented, "network driver %q cannot be had by a user: it needs an interface of the host, which is the administrator's; use the driver bridge, and -p to publish ports", driver)
	case "overlay":
		return moss.Errorf(moss.NotImplemented, "network driver %q needs a swarm, which moss has not; use the driver bridge", driver)
	case "host", "null":
		return moss.Errorf(moss.Forbidden, "only one instance of %q network is allowed", driver)
	}
	return moss.Errorf(moss.NotFound, "could not find plugin %s in v1 plugin registry: plugin not found; the driver is bridge", driver)
}

func (n *Networks) complete(net *moss.Network) error {
	others := append(n.takenSubnets(), n.driversSubnets()...)
	taken := subnets(others)
	if net.Subnet.IsValid() {
		if err := checkOwn(net.Subnet, others); err != nil {
			return err
		}
	} else if !net.NoIPv4 {
		host, err := hostRoutes()
		if err != nil {
			return err
		}
		if net.Subnet, err = fromPools(pools4(n.cfg.Pools), false, slices.Concat(taken, host)); err != nil {
			return err
		}
	}
	if net.Subnet6.IsValid() {
		net.IPv6 = true
		if err := checkOwn(net.Subnet6, others); err != nil {
			return err
		}
	} else if net.IPv6 {
		var err error
		if net.Subnet6, err = fromPools(n.cfg.Pools, true, taken); err != nil {
			net.Subnet6 = uniqueLocal()
		}
	}
	for _, s := range []struct {
		subnet, within netip.Prefix
		gateway        *netip.Addr
	}{{net.Subnet, net.Range, &net.Gateway}, {net.Subnet6, net.Range6, &net.Gateway6}} {
		if !s.subnet.IsValid() {
			continue
		}
		if s.within.IsValid() && (!s.subnet.Contains(s.within.Addr()) || s.within.Bits() < s.subnet.Bits()) {
			return moss.Errorf(moss.Invalid, "invalid network config:\ninvalid ip-range %s: it is not within subnet %s", s.within, s.subnet)
		}
		if !s.gateway.IsValid() {
			*s.gateway = s.subnet.Masked().Addr().Next()
		}
		if !s.subnet.Contains(*s.gateway) {
			return moss.Errorf(moss.Invalid, "invalid network config:\ninvalid gateway %s: parent subnet is %s", *s.gateway, s.subnet)
		}
	}
	for name, a := range net.Reserved {
		if !net.Subnet.Contains(a) && !net.Subnet6.Contains(a) {
			return moss.Errorf(moss.Invalid, "invalid network config:\nno matching subnet for aux-address %s of %q", a, name)
		}
	}
	if net.MTU == 0 {
		net.MTU = n.cfg.MTU
	}
	if net.Link == "" {
		net.Link = userLinkPrefix + string(net.ID[:12])
	} else if _, err := n.handle.LinkByName(net.Link); err == nil {
		return moss.Errorf(moss.Conflict, "cannot name the bridge %q: there is a link of that name", net.Link)
	}
	return nil
}

// checkOwn says whether a subnet that the user names can be had.
func checkOwn(p netip.Prefix, others []owned) error {
	if p.Addr().Is4() && (p.Bits() > 30 || p.Bits() < 8) || p.Addr().Is6() && (p.Bits() > 126 || p.Bits() < 16) {
		return moss.Errorf(moss.Invalid, "invalid network config:\ninvalid subnet %s: it has no room for containers, or is too large", p)
	}
	if p != p.Masked() {
		return moss.Errorf(moss.Invalid, "invalid network config:\ninvalid subnet %s: it should be %s", p, p.Masked())
	}
	if s, there := overlapping(p, special); there {
		return moss.Errorf(moss.Invalid, "invalid network config:\ninvalid subnet %s: addresses in %s are no host's on a network", p, s)
	}
	if o, there := clash(p, others); there {
		return moss.Errorf(moss.Forbidden, "invalid pool request: Pool overlaps with other one on this address space: %s is of %s", o.subnet, o.by)
	}
	return nil
}

// checkKept says whether a network of the records can be: one that create would
// not have made is damaged, and must not end the engine with it.
func checkKept(net moss.Network) error {
	if net.Builtin() || net.Link == Bridge || net.Link == "" || len(net.Link) >= unix.IFNAMSIZ {
		return moss.Errorf(moss.Invalid, "its record is damaged: it is called %.100q, and its bridge %.100q", net.Name, net.Link)
	}
	for _, f := range []struct {
		subnet, within netip.Prefix
		gateway        netip.Addr
		six            bool
	}{{net.Subnet, net.Range, net.Gateway, false}, {net.Subnet6, net.Range6, net.Gateway6, true}} {
		if !f.subnet.IsValid() {
			continue
		}
		a := f.subnet.Addr()
		if a.Is6() != f.six || a.Is4In6() || !f.subnet.Contains(f.gateway) || f.within.IsValid() && (f.within.Bits() < f.subnet.Bits() || !f.subnet.Contains(f.within.Addr())) {
			return moss.Errorf(moss.Invalid, "its record is damaged: the gateway of %s is %s, and addresses are given from %s", f.subnet, f.gateway, f.within)
		}
	}
	return nil
}

func (n *Networks) takenSubnets() []owned {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []owned
	for _, p := range n.places {
		out = append(out, subnetsOf(p.Network)...)
	}
	return out
}

// setUp makes the bridge of a network where it is not there yet, and finishes it
// where it is down or lacks an address: the addresses there are come along.
func (n *Networks) setUp(p *place, has map[bridgeAddress]bool) error {
	link, err := n.handle.LinkByName(p.Link)
	switch {
	case err == nil && link.Attrs().Flags&net.FlagUp != 0 && p.addressed(link.Attrs().Index, has):
		p.index = link.Attrs().Index
		return nil
	case err == nil:
		return inNetNS(n.cfg.NetNS, func() error { return n.finishUserBridge(p, link) })
	case errors.As(err, new(netlink.LinkNotFoundError)):
		return inNetNS(n.cfg.NetNS, func() error { return n.makeUserBridge(p) })
	}
	return fmt.Errorf("cannot look for the bridge %s: %w", p.Link, err)
}

// Remove takes a network away that nobody is attached to. Errors: NotFound, Forbidden.
func (n *Networks) Remove(_ context.Context, id moss.NetworkID) error {
	n.making.Lock()
	defer n.making.Unlock()
	n.mu.Lock()
	p, ok := n.places[id]
	var users []string
	if ok {
		for c, end := range p.users {
			users = append(users, fmt.Sprintf("name:%q id:%q", n.nameLocked(c), end[:12]))
		}
		p.closed = len(users) == 0
	}
	n.mu.Unlock()
	if !ok {
		return moss.Errorf(moss.NotFound, "network %s not found", id)
	}
	if len(users) > 0 {
		slices.Sort(users)
		return moss.Errorf(moss.Forbidden, "error while removing network: network %s has active endpoints (%s)", p.Name, strings.Join(users, ", "))
	}
	if err := n.removeLink(p.Link); err != nil {
		n.mu.Lock()
		p.closed = false
		n.mu.Unlock()
		return err
	}
	n.mu.Lock()
	n.forgetLocked(p)
	n.mu.Unlock()
	return n.filterOne(p.Network, (*nftables.Conn).SetDeleteElements)
}

// Adopt takes over the networks of the records: bridges that are not there are
// made, those of no network are removed. It comes before Restore.
func (n *Networks) Adopt(_ context.Context, nets []moss.Network) error {
	n.making.Lock()
	defer n.making.Unlock()
	var errs []error
	keep := map[string]bool{Bridge: true}
	has, err := n.addresses()
	if err != nil {
		errs = append(errs, err)
	}
	for _, net := range nets {
		p := newPlace(net)
		keep[net.Link] = true
		err := checkKept(net)
		if err == nil {
			err = n.setUp(p, has)
		}
		if err != nil {
			errs = append(errs, moss.Wrap(err, "restore network", net.Name))
			continue
		}
		n.mu.Lock()
		n.noteLocked(p)
		n.mu.Unlock()
	}
	links, err := n.handle.LinkList()
	if err != nil {
		errs = append(errs, fmt.Errorf("cannot list the links: %w", err))
	}
	for _, l := range links {
		// Whoever has a bridge in the holder's namespace, it is ours.
		if l.Type() == "bridge" && !keep[l.Attrs().Name] {
			errs = append(errs, n.removeLink(l.Attrs().Name))
		}
	}
	return errors.Join(append(errs, n.filter())...)
}

// lookup finds a bridge network by name or id; the caller holds mu.
func (n *Networks) lookupLocked(ref string) *place {
	if p, ok := n.places[moss.NetworkID(ref)]; ok && !p.closed {
		return p
	}
	if p := n.named[ref]; p != nil && !p.closed {
		return p
	}
	return nil
}

func (n *Networks) noteLocked(p *place) { n.places[p.ID], n.named[p.Name] = p, p }

func (n *Networks) forgetLocked(p *place) {
	delete(n.places, p.ID)
	delete(n.named, p.Name)
}

// enter takes an end point in a network: from now on it cannot be removed.
func (n *Networks) enter(ref string, id moss.ContainerID) (*place, string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.lookupLocked(ref)
	if p == nil || n.cfg.NoBridge && p.Builtin() {
		return nil, "", moss.Errorf(moss.NotFound, "network %s not found", ref)
	}
	end := moss.NewHexID()
	p.users[id] = end
	return p, end, nil
}

func (n *Networks) leave(p *place, id moss.ContainerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(p.users, id)
}

func (n *Networks) placeOf(id moss.NetworkID) *place {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.places[id]
}
