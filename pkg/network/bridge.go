package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

// driversRoutes are the destinations in the holder's namespace that are not
// networks' own: those of its network driver, which stay as they are.
func (n *Networks) driversRoutes() ([]netip.Prefix, error) {
	links, err := n.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list the links: %w", err)
	}
	bridges := map[int]bool{}
	for _, l := range links {
		bridges[l.Attrs().Index] = l.Type() == "bridge"
	}
	var all []netip.Prefix
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := n.handle.RouteList(nil, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("cannot read the holder's routes: %w", err)
		}
		all = append(all, destinations(slices.DeleteFunc(routes, func(r netlink.Route) bool { return bridges[r.LinkIndex] }))...)
	}
	return all, nil
}

// ensureBridge makes the bridge, or takes the one there is, and returns its
// subnet. One that has the wrong subnet is made anew if nobody is attached.
func (n *Networks) ensureBridge(host []netip.Prefix) (netip.Prefix, error) {
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
		if !n.fits(has) {
			n.noteKept(has, "bip, fixed-cidr and default-address-pools")
		}
		n.bridge = link.Attrs().Index
		return has.Masked(), n.handle.LinkSetUp(link)
	}
	others := append(n.driversSubnets(), subnetsOf(n.cfg.Kept...)...)
	subnet := n.cfg.Subnet.Masked()
	if n.cfg.Subnet.IsValid() {
		err = checkSetting("bip", subnet, others)
	} else {
		subnet, err = chooseSubnet(n.cfg.Pools, slices.Concat(host, subnets(others)))
	}
	if err != nil {
		return netip.Prefix{}, err
	}
	return subnet, n.makeBridge(subnet)
}

// fits says whether the bridge may keep its subnet while nobody is on it.
func (n *Networks) fits(has netip.Prefix) bool {
	if !has.IsValid() || n.cfg.Subnet.IsValid() {
		return has.IsValid() && has.Masked() == n.cfg.Subnet.Masked()
	}
	pools := poolsOf(n.cfg.Pools, false)
	if len(pools) > 0 && !slices.ContainsFunc(pools, func(p Pool) bool { return p.Size == has.Bits() && p.Base.Contains(has.Addr()) }) {
		return false
	}
	_, clashes := clash(has, subnetsOf(n.cfg.Kept...))
	return !clashes
}

// noteKept tells that settings wait for the containers on the bridge to end.
func (n *Networks) noteKept(has netip.Prefix, keys string) {
	what := "is without an IPv6 network"
	if has.IsValid() {
		what = "keeps the network " + has.Masked().String()
	}
	n.notes = append(n.notes, fmt.Sprintf("WARNING: The default bridge %s while containers are on it. The settings %s are of effect when moss is started while there are none.", what, keys))
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

// ensureBridge6 gives the bridge the IPv6 network of the settings, or none, and
// returns it. While containers are attached, it keeps what it has.
func (n *Networks) ensureBridge6() (netip.Prefix, error) {
	var want netip.Prefix
	if n.cfg.IPv6 {
		if want = n.cfg.Subnet6.Masked(); !want.IsValid() {
			var err error
			if want, err = fromPools([]Pool{ownUniqueLocal(n.cfg.NetNS)}, true, subnets(subnetsOf(n.cfg.Kept...))); err != nil {
				return want, err
			}
		}
	}
	link, err := n.handle.LinkByIndex(n.bridge)
	if err != nil {
		return want, fmt.Errorf("cannot find the bridge: %w", err)
	}
	addrs, err := n.handle.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return want, fmt.Errorf("cannot read the bridge's IPv6 address: %w", err)
	}
	used, err := n.bridgeUsed(n.bridge)
	if err != nil {
		return want, err
	}
	for _, a := range addrs {
		has, ok := prefixOf(a.IPNet)
		switch {
		case !ok || has.Addr().IsLinkLocalUnicast():
		case used || has.Masked() == want:
			if has.Masked() != want {
				n.noteKept(has, "ipv6, bip6 and fixed-cidr-v6")
			}
			return has.Masked(), forward6() // of an engine that was killed before it did
		default:
			if err := n.handle.AddrDel(link, &a); err != nil {
				return want, fmt.Errorf("cannot take the address %s from the bridge: %w", has, err)
			}
		}
	}
	if used && want.IsValid() {
		n.noteKept(netip.Prefix{}, "ipv6, bip6 and fixed-cidr-v6")
	}
	if used || !want.IsValid() {
		return netip.Prefix{}, setSysctl("net/ipv6/conf/"+Bridge+"/disable_ipv6", "1")
	}
	if err := checkSetting("bip6 or fixed-cidr-v6", want, append(n.driversSubnets(), subnetsOf(n.cfg.Kept...)...)); err != nil {
		return want, err
	}
	return want, giveIPv6(n.handle, link, netip.PrefixFrom(want.Addr().Next(), want.Bits()))
}

// giveIPv6 gives a bridge its address, and has the namespace forward; the thread
// is in it. The address is last: a bridge that has it has a way out.
func giveIPv6(h *netlink.Handle, link netlink.Link, at netip.Prefix) error {
	if err := forward6(); err != nil {
		return err
	}
	if err := setSysctl("net/ipv6/conf/"+link.Attrs().Name+"/disable_ipv6", "0"); err != nil {
		return err
	}
	if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(at), Flags: unix.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("cannot give it the address %s: %w", at.Addr(), err)
	}
	return nil
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
func (n *Networks) makeUserBridge(p *place) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = p.Link, p.MTU
	attrs.HardwareAddr = macFor(moss.Interface{
		Address: netip.PrefixFrom(p.Gateway, p.Subnet.Bits()), Address6: netip.PrefixFrom(p.Gateway6, p.Subnet6.Bits()),
	})
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("cannot make the bridge %s: %w", p.Link, err)
	}
	link, err := n.handle.LinkByName(p.Link)
	if err == nil {
		err = n.finishUserBridge(p, link)
	}
	if err != nil {
		return errors.Join(err, n.removeLink(p.Link))
	}
	return nil
}

// bridgeAddress is an address of the link with the index.
type bridgeAddress struct {
	index int
	addr  netip.Addr
}

// addresses are those of all links in the holder's namespace.
func (n *Networks) addresses() (map[bridgeAddress]bool, error) {
	list, err := n.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("cannot read the addresses of the bridges: %w", err)
	}
	has := make(map[bridgeAddress]bool, len(list))
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); ok {
			has[bridgeAddress{a.LinkIndex, p.Addr()}] = true
		}
	}
	return has, nil
}

// addressed says whether the place's bridge has its gateways.
func (p *place) addressed(index int, has map[bridgeAddress]bool) bool {
	return (!p.Subnet.IsValid() || has[bridgeAddress{index, p.Gateway}]) && (!p.Subnet6.IsValid() || has[bridgeAddress{index, p.Gateway6}])
}

// finishUserBridge gives a bridge what it lacks. It is up at last: one that is
// down, or up without its addresses as an older engine made it, was left half-made
// by an engine that was killed.
func (n *Networks) finishUserBridge(p *place, link netlink.Link) (err error) {
	p.index = link.Attrs().Index
	if p.Subnet.IsValid() {
		if err := n.handle.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))}); err != nil {
			return moss.Wrap(fmt.Errorf("cannot give it the address %s: %w", p.Gateway, err), "set up the bridge", p.Link)
		}
	}
	if p.Subnet6.IsValid() {
		err = giveIPv6(n.handle, link, netip.PrefixFrom(p.Gateway6, p.Subnet6.Bits()))
	} else {
		err = setSysctl("net/ipv6/conf/"+p.Link+"/disable_ipv6", "1")
	}
	if err == nil {
		err = n.handle.LinkSetUp(link)
	}
	return moss.Wrap(err, "set up the bridge", p.Link)
}

// forward6 lets IPv6 packets through. Setting it goes over all links, so it is
// set once.
func forward6() error {
	const name = "net/ipv6/conf/all/forwarding"
	if is, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil && strings.TrimSpace(string(is)) == "1" {
		return nil
	}
	return setSysctl(name, "1")
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
