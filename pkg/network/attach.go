package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// guestLink is the container's end of its link.
const guestLink = "eth0"

// Attach makes the network namespace of a container and its link; in the host's
// network it makes nothing. What an earlier run left is replaced.
func (n *Networks) Attach(ctx context.Context, c *moss.Container) (moss.Attachment, error) {
	if err := ctx.Err(); err != nil {
		return moss.Attachment{}, err
	}
	mode := c.Host.NetworkMode
	if mode == "" || mode == "default" {
		mode = moss.NetworkBridge
	}
	a := moss.Attachment{Mode: mode, Network: networkID(mode), Endpoint: moss.NewHexID()}
	var err error
	switch {
	case mode == moss.NetworkHost:
	case mode == moss.NetworkNone:
		err = n.attachNone(c.ID, &a)
	case mode == moss.NetworkBridge:
		err = n.attachBridge(c.ID, &a)
	case strings.HasPrefix(string(mode), "container:"):
		err = moss.Errorf(moss.NotImplemented, "network mode %q is not supported; use bridge, host or none", mode)
	default:
		return moss.Attachment{}, moss.Errorf(moss.NotFound, "network %s not found: the networks are bridge, host and none", mode)
	}
	if err != nil {
		return moss.Attachment{}, moss.Wrap(err, "attach to network "+string(mode)+" container", c.Name)
	}
	n.setName(c.ID, c.Name)
	return a, nil
}

func (n *Networks) attachNone(id moss.ContainerID, a *moss.Attachment) error {
	s, err := n.makeSpace(id)
	if err != nil {
		return err
	}
	s.Close()
	a.NetNS, a.Sandbox = n.path(id), moss.NewHexID()
	return nil
}

// makeSpace makes the container's namespace in place of what is there.
func (n *Networks) makeSpace(id moss.ContainerID) (*space, error) {
	s, err := makeNetNS(n.path(id))
	if !errors.Is(err, os.ErrExist) {
		return s, err
	}
	if err := errors.Join(n.removeLink(hostLink(id)), removeNetNS(n.path(id))); err != nil {
		return nil, err
	}
	return makeNetNS(n.path(id))
}

func (n *Networks) attachBridge(id moss.ContainerID, a *moss.Attachment) (err error) {
	if a.Address, err = n.ipam.take(id); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			n.ipam.release(id, a.Address.Addr())
		}
	}()
	s, err := n.makeSpace(id)
	if err != nil {
		return err
	}
	defer s.Close()
	mac := macOf(a.Address.Addr())
	if err := n.connect(id, s, a.Address, mac); err != nil {
		return errors.Join(err, n.removeLink(hostLink(id)), removeNetNS(n.path(id)))
	}
	a.NetNS, a.Sandbox = n.path(id), moss.NewHexID()
	a.HostLink, a.Gateway, a.MAC = hostLink(id), n.ipam.gateway(), mac.String()
	a.DNS, a.HostIP = n.cfg.DNS, n.cfg.HostIP
	return nil
}

// connect joins the container's namespace to the bridge.
func (n *Networks) connect(id moss.ContainerID, s *space, address netip.Prefix, mac net.HardwareAddr) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = hostLink(id), n.cfg.MTU, n.bridge, net.FlagUp
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr = guestLink, mac
	pair.PeerNamespace = netlink.NsFd(int(s.file.Fd()))
	err := n.handle.LinkAdd(pair)
	if errors.Is(err, os.ErrExist) {
		// The kernel is still busy with an earlier run's, or an engine was killed.
		if err = n.removeLink(attrs.Name); err == nil {
			err = n.handle.LinkAdd(pair)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make the link %s: %w", attrs.Name, err)
	}
	guest, err := s.handle.LinkByName(guestLink)
	if err != nil {
		return fmt.Errorf("cannot find %s in the container's namespace: %w", guestLink, err)
	}
	if err := s.handle.AddrAdd(guest, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("cannot give %s the address %s: %w", guestLink, address, err)
	}
	if err := s.handle.LinkSetUp(guest); err != nil {
		return fmt.Errorf("cannot bring %s up: %w", guestLink, err)
	}
	route := &netlink.Route{LinkIndex: guest.Attrs().Index, Gw: n.ipam.gateway().AsSlice()}
	if err := s.handle.RouteAdd(route); err != nil {
		return fmt.Errorf("cannot set the default route: %w", err)
	}
	return nil
}

// Detach undoes Attach and closes ports still open; nil when nothing is left.
func (n *Networks) Detach(ctx context.Context, id moss.ContainerID, a moss.Attachment) error {
	var errs []error
	if a.Mode == moss.NetworkBridge {
		errs = append(errs, n.unpublish(ctx, id, a), n.removeLink(hostLink(id)))
	}
	errs = append(errs, removeNetNS(n.path(id)))
	err := errors.Join(errs...)
	if err != nil {
		return moss.Wrap(err, "detach from network "+string(a.Mode)+" container", n.name(id))
	}
	// Only now: nobody else may get the address while the link is there.
	if a.Address.IsValid() {
		n.ipam.release(id, a.Address.Addr())
	}
	n.setName(id, "")
	n.setPorts(id, false)
	return nil
}

// removeLink takes a link away; nil when there is none.
func (n *Networks) removeLink(name string) error {
	link, err := n.handle.LinkByName(name)
	if err == nil {
		err = n.handle.LinkDel(link)
	}
	// It may go with its namespace at any time.
	if err != nil && !errors.As(err, new(netlink.LinkNotFoundError)) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("cannot remove the link %s: %w", name, err)
	}
	return nil
}
