package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Connect gives a running container a place in a further network, as its record
// asks for it. The default route goes where it belongs then.
func (n *Networks) Connect(ctx context.Context, c *moss.Container, a moss.Attachment, ref string, want moss.Endpoint) (_ moss.Attachment, err error) {
	if a.NetNS == "" || a.Mode == moss.NetworkNone {
		return a, moss.Errorf(moss.Invalid, "cannot connect a container in network mode %q to a network", a.Mode)
	}
	s, err := openSpace(a.NetNS)
	if err != nil {
		return a, err
	}
	defer s.Close()
	all := a.Interfaces()
	i, err := n.join(c.ID, s, ref, want, all)
	if err != nil {
		return a, err
	}
	i.Names = n.namesIn(c, i, want)
	if i.Links, err = linksIn(want); err != nil {
		return a, errors.Join(err, n.undoInterface(c.ID, i))
	}
	next, err := n.arrange(ctx, c.ID, s, a, append(slices.Clone(all), i))
	if err != nil {
		_, undo := n.arrange(context.WithoutCancel(ctx), c.ID, s, next, all)
		return a, errors.Join(err, undo, n.undoInterface(c.ID, i))
	}
	n.zone.add(c.ID, i)
	if resolves(next) {
		if !resolves(a) {
			next.DNS, next.Upstreams = []netip.Addr{moss.ResolverAddr}, c.Host.DNS
		}
		if err := n.startResolver(c.ID, next); err != nil {
			_, undo := n.arrange(context.WithoutCancel(ctx), c.ID, s, next, all)
			return a, errors.Join(err, undo, n.undoInterface(c.ID, i))
		}
	}
	return next, nil
}

// Disconnect takes a running container out of a network. Errors: NotFound where it is not in it.
func (n *Networks) Disconnect(ctx context.Context, id moss.ContainerID, a moss.Attachment, network moss.NetworkID) (moss.Attachment, error) {
	all := a.Interfaces()
	at := slices.IndexFunc(all, func(i moss.Interface) bool { return i.Network == network })
	if at < 0 || all[at].HostLink == "" {
		return a, moss.Errorf(moss.NotFound, "container %s is not connected to the network", n.name(id))
	}
	s, err := openSpace(a.NetNS)
	if err != nil {
		return a, err
	}
	defer s.Close()
	gone := all[at]
	next, err := n.arrange(ctx, id, s, a, slices.Delete(slices.Clone(all), at, at+1))
	if err != nil {
		return a, err
	}
	n.mu.Lock()
	r := n.resolvers[id]
	n.mu.Unlock()
	if r != nil {
		r.view.Store(viewOf(next)) // it stays: resolv.conf names it
	}
	return next, n.undoInterface(id, gone)
}

// arrange puts the default route, and the published ports, where they belong
// among the interfaces.
func (n *Networks) arrange(ctx context.Context, id moss.ContainerID, s *space, a moss.Attachment, all []moss.Interface) (moss.Attachment, error) {
	slices.SortStableFunc(all, byGateway)
	next := a
	next.Interface, next.Others = moss.Interface{}, nil
	if len(all) > 0 {
		next.Interface, next.Others = all[0], all[1:]
	}
	if next.Network == a.Network {
		return next, nil
	}
	if err := s.setRoute(next.Interface); err != nil {
		return next, err
	}
	if len(a.Published) == 0 {
		return next, nil
	}
	if err := n.unpublish(ctx, id, a); err != nil {
		return next, err
	}
	next.Published = nil
	if !next.Address.IsValid() && !next.Address6.IsValid() || next.Internal { // no way out, no way in
		return next, nil
	}
	var ports []moss.PortBinding
	for _, p := range a.Published {
		ports = append(ports, p.Binding)
	}
	var err error
	next.Published, err = n.Publish(ctx, id, next, ports)
	return next, err
}

// openSpace opens a network namespace that is there.
func openSpace(path string) (*space, error) {
	s := space{path: path}
	var err error
	if s.file, err = os.Open(path); err != nil {
		return nil, fmt.Errorf("cannot open the network namespace: %w", err)
	}
	err = inNetNS(path, func() error {
		var err error
		s.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		_ = s.file.Close() // already failing
		return nil, fmt.Errorf("cannot open netlink in %s: %w", path, err)
	}
	return &s, nil
}
