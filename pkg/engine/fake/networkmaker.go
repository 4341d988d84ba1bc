package fake

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.NetworkMaker = (*Networks)(nil)

// Create implements engine.NetworkMaker.
func (n *Networks) Create(_ context.Context, net moss.Network) (moss.Network, error) {
	if net.Driver == "" {
		net.Driver = "bridge"
	}
	if net.Driver != "bridge" {
		return net, moss.Errorf(moss.NotImplemented, "network driver %q is not there", net.Driver)
	}
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	for _, m := range n.host.nets {
		if m.Name == net.Name {
			return net, moss.Errorf(moss.Conflict, "network with name %s already exists", net.Name)
		}
		if net.Subnet.IsValid() && m.Subnet.Overlaps(net.Subnet) {
			return net, moss.Errorf(moss.Forbidden, "invalid pool request: Pool overlaps with other one on this address space")
		}
	}
	if !net.Subnet.IsValid() {
		n.host.nextNet++
		net.Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(n.host.nextNet), 0}), 24)
	}
	if !net.Gateway.IsValid() {
		net.Gateway = net.Subnet.Addr().Next()
	}
	net.Link = "br-" + string(net.ID[:12])
	n.host.nets = append(n.host.nets, net)
	return net, nil
}

// Remove implements engine.NetworkMaker.
func (n *Networks) Remove(_ context.Context, id moss.NetworkID) error {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	at := slices.IndexFunc(n.host.nets, func(m moss.Network) bool { return m.ID == id })
	if at < 0 {
		return moss.Errorf(moss.NotFound, "network %s not found", id)
	}
	for _, a := range n.host.attached {
		if slices.ContainsFunc(a.Interfaces(), func(i moss.Interface) bool { return i.Network == id }) {
			return moss.Errorf(moss.Forbidden, "error while removing network: network %s has active endpoints", n.host.nets[at].Name)
		}
	}
	n.host.nets = slices.Delete(n.host.nets, at, at+1)
	return nil
}

// Adopt implements engine.NetworkMaker.
func (n *Networks) Adopt(_ context.Context, nets []moss.Network) error {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	n.host.nets = slices.Clone(nets)
	return nil
}

// Connect implements engine.NetworkMaker.
func (n *Networks) Connect(_ context.Context, c *moss.Container, a moss.Attachment, network string, e moss.Endpoint) (moss.Attachment, error) {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	i, err := n.host.joinLocked(c.ID, network, e, len(a.Interfaces()))
	if err != nil {
		return a, err
	}
	a = arranged(a, append(slices.Clone(a.Interfaces()), i))
	n.host.attached[c.ID] = a
	return a, nil
}

// Disconnect implements engine.NetworkMaker.
func (n *Networks) Disconnect(_ context.Context, id moss.ContainerID, a moss.Attachment, network moss.NetworkID) (moss.Attachment, error) {
	n.host.mu.Lock()
	defer n.host.mu.Unlock()
	all := slices.Clone(a.Interfaces())
	left := slices.DeleteFunc(all, func(i moss.Interface) bool { return i.Network == network })
	if len(left) == len(a.Interfaces()) {
		return a, moss.Errorf(moss.NotFound, "container %s is not connected to the network", id.Short())
	}
	if a = arranged(a, left); len(left) == 0 || a.Internal { // no way out, no way in
		a.Published = nil
		n.host.closeLocked(id)
	}
	n.host.attached[id] = a
	return a, nil
}

func arranged(a moss.Attachment, all []moss.Interface) moss.Attachment {
	slices.SortStableFunc(all, func(x, y moss.Interface) int { return y.GwPriority - x.GwPriority })
	a.Interface, a.Others = moss.Interface{}, nil
	if len(all) > 0 {
		a.Interface, a.Others = all[0], all[1:]
	}
	return a
}

func (h *hostNetwork) findLocked(ref string) (moss.Network, error) {
	for _, m := range append([]moss.Network{fakeBridge()}, h.nets...) {
		if m.Name == ref || string(m.ID) == ref {
			return m, nil
		}
	}
	return moss.Network{}, moss.Errorf(moss.NotFound, "network %s not found", ref)
}

func (h *hostNetwork) joinLocked(id moss.ContainerID, ref string, e moss.Endpoint, number int) (moss.Interface, error) {
	m, err := h.findLocked(ref)
	if err != nil {
		return moss.Interface{}, err
	}
	i := moss.Interface{
		Network: m.ID, Name: m.Name, Link: fmt.Sprintf("eth%d", number), Endpoint: moss.NewHexID(), HostLink: "ve" + id.Short(),
		Gateway: m.Gateway, GwPriority: e.GwPriority, MAC: e.MAC, Internal: m.Internal,
	}
	if number > 0 {
		i.HostLink += fmt.Sprint(number)
	}
	if i.Address, err = h.freeLocked(m, e.Address); err != nil {
		return i, err
	}
	if i.MAC == "" {
		i.MAC = fmt.Sprintf("02:42:%x", i.Address.Addr().As4())
	}
	return i, nil
}

func (h *hostNetwork) freeLocked(m moss.Network, want netip.Addr) (netip.Prefix, error) {
	taken := map[netip.Addr]bool{m.Gateway: true}
	for _, a := range h.attached {
		for _, i := range a.Interfaces() {
			taken[i.Address.Addr()] = true
		}
	}
	if want.IsValid() && taken[want] {
		return netip.Prefix{}, moss.Errorf(moss.Forbidden, "Address already in use")
	}
	if want.IsValid() && !m.Subnet.Contains(want) {
		return netip.Prefix{}, moss.Errorf(moss.Invalid, "no configured subnet contains IP address %s", want)
	}
	at := want
	if !at.IsValid() {
		for at = m.Gateway.Next(); taken[at]; {
			at = at.Next()
		}
	}
	return netip.PrefixFrom(at, m.Subnet.Bits()), nil
}
