package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// hostRoutes are the destinations that the host reaches other than by default.
func hostRoutes() ([]netip.Prefix, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("cannot read the host's routes: %w", err)
	}
	return destinations(routes), nil
}

func destinations(routes []netlink.Route) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p, ok := prefixOf(r.Dst); ok {
			out = append(out, p)
		}
	}
	return out
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

// ensureBridge makes the bridge, or takes the one there is, and returns its
// subnet. One that has the wrong subnet is made anew if nobody is attached.
func (n *Networks) ensureBridge(taken []netip.Prefix) (netip.Prefix, error) {
	if n.cfg.Subnet.IsValid() {
		if err := checkSubnet(n.cfg.Subnet); err != nil {
			return netip.Prefix{}, err
		}
	}
	link, has, err := n.findBridge()
	if err != nil {
		return netip.Prefix{}, err
	}
	if link != nil && !n.fits(has) {
		used, err := n.bridgeUsed(link.Attrs().Index)
		if err != nil {
			return netip.Prefix{}, err
		}
		if !used || !has.IsValid() {
			if err := n.handle.LinkDel(link); err != nil {
				return netip.Prefix{}, fmt.Errorf("cannot remove the old bridge: %w", err)
			}
			link = nil
		}
	}
	if link != nil {
		n.bridge = link.Attrs().Index
		return has.Masked(), n.handle.LinkSetUp(link)
	}
	subnet := n.cfg.Subnet.Masked()
	if !n.cfg.Subnet.IsValid() {
		// What the holder's driver uses must stay reachable, too.
		own, err := n.handle.RouteList(nil, netlink.FAMILY_V4)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return netip.Prefix{}, fmt.Errorf("cannot read the holder's routes: %w", err)
		}
		if subnet, err = chooseSubnet(append(destinations(own), taken...)); err != nil {
			return netip.Prefix{}, err
		}
	}
	return subnet, n.makeBridge(subnet)
}

func (n *Networks) fits(has netip.Prefix) bool {
	return has.IsValid() && (!n.cfg.Subnet.IsValid() || has.Masked() == n.cfg.Subnet.Masked())
}

func (n *Networks) findBridge() (netlink.Link, netip.Prefix, error) {
	link, err := n.handle.LinkByName(Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, netip.Prefix{}, nil
	}
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("cannot look for the bridge: %w", err)
	}
	addrs, err := n.handle.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("cannot read the bridge's address: %w", err)
	}
	for _, a := range addrs {
		if p, ok := prefixOf(a.IPNet); ok {
			return link, p, nil
		}
	}
	return link, netip.Prefix{}, nil
}

func (n *Networks) bridgeUsed(index int) (bool, error) {
	links, err := n.handle.LinkList()
	if err != nil {
		return false, fmt.Errorf("cannot list the links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == index {
			return true, nil
		}
	}
	return false, nil
}

func (n *Networks) makeBridge(subnet netip.Prefix) error {
	gateway := subnet.Addr().Next()
	attrs := netlink.NewLinkAttrs()
	// A bridge without a fixed hardware address changes it with its links.
	attrs.Name, attrs.HardwareAddr, attrs.MTU = Bridge, macOf(gateway), n.cfg.MTU
	attrs.Flags = net.FlagUp
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("cannot make the bridge: %w", err)
	}
	link, err := n.handle.LinkByName(Bridge)
	if err == nil {
		n.bridge = link.Attrs().Index
		err = n.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(gateway, subnet.Bits()))})
	}
	if err == nil {
		err = setSysctl("net/ipv6/conf/"+Bridge+"/disable_ipv6", "1")
	}
	if err != nil {
		return moss.Wrap(err, "set up the bridge", Bridge)
	}
	return nil
}

// makeUserBridge makes the bridge of a network; the thread is in the holder's namespace.
func (n *Networks) makeUserBridge(p *place) (err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = p.Link, p.MTU, net.FlagUp
	attrs.HardwareAddr = macFor(moss.Interface{
		Address: netip.PrefixFrom(p.Gateway, p.Subnet.Bits()), Address6: netip.PrefixFrom(p.Gateway6, p.Subnet6.Bits()),
	})
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("cannot make the bridge %s: %w", p.Link, err)
	}
	defer func() {
		if err != nil {
			err = moss.Wrap(errors.Join(err, n.removeLink(p.Link)), "set up the bridge", p.Link)
		}
	}()
	link, err := n.handle.LinkByName(p.Link)
	if err != nil {
		return err
	}
	p.index = link.Attrs().Index
	if p.Subnet.IsValid() {
		if err := n.handle.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))}); err != nil {
			return fmt.Errorf("cannot give it the address %s: %w", p.Gateway, err)
		}
	}
	if !p.Subnet6.IsValid() {
		return setSysctl("net/ipv6/conf/"+p.Link+"/disable_ipv6", "1")
	}
	if err := setSysctl("net/ipv6/conf/"+p.Link+"/disable_ipv6", "0"); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(p.Gateway6, p.Subnet6.Bits())), Flags: unix.IFA_F_NODAD}
	if err := n.handle.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("cannot give it the address %s: %w", p.Gateway6, err)
	}
	return setSysctl("net/ipv6/conf/all/forwarding", "1")
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
