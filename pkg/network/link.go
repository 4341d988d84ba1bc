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

// linkDigits tell the links of one container apart, at the end of hostLink.
const linkDigits = "0123456789abcdefghijklmnopqrstuvwxyz"

// freeLink is the number of a container's next link, at the bridge's side, and
// its name in the container: what is asked for, or the first ethN.
func freeLink(id moss.ContainerID, asked string, have []moss.Interface) (number int, name string, err error) {
	has := func(name string) bool {
		return slices.ContainsFunc(have, func(i moss.Interface) bool { return i.Link == name || i.HostLink == name })
	}
	if asked != "" && has(asked) {
		return 0, "", moss.Errorf(moss.Conflict, "cannot name the link %q (%s): the container has one of that name", asked, moss.EndpointIfname)
	}
	for name = asked; name == ""; number++ {
		if eth := fmt.Sprintf("eth%d", number); !has(eth) {
			name = eth
		}
	}
	for number := range len(linkDigits) {
		if !has(numberedLink(id, number)) {
			return number, name, nil
		}
	}
	return 0, "", moss.Errorf(moss.Forbidden, "a container has at most %d networks", len(linkDigits))
}

func macFor(i moss.Interface) net.HardwareAddr {
	if i.Address.IsValid() {
		return macOf(i.Address.Addr())
	}
	b := i.Address6.Addr().As16()
	return net.HardwareAddr{0x02, 0x42, b[12], b[13], b[14], b[15]}
}

// connect joins the container's namespace to a bridge.
func (n *Networks) connect(p *place, s *space, i moss.Interface) error {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return moss.Errorf(moss.Invalid, "invalid MAC address: %s", i.MAC)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.Flags = i.HostLink, p.MTU, p.index, net.FlagUp
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr = i.Link, mac
	pair.PeerNamespace = netlink.NsFd(int(s.file.Fd()))
	err = n.handle.LinkAdd(pair)
	if errors.Is(err, os.ErrExist) {
		// The kernel is still busy with an earlier run's, or an engine was killed.
		if err = n.removeLink(attrs.Name); err == nil {
			err = n.handle.LinkAdd(pair)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make the link %s: %w", attrs.Name, err)
	}
	if p.Isolated {
		// Frames between ports of one bridge pass no packet filter.
		link, err := n.handle.LinkByName(attrs.Name)
		if err == nil {
			err = n.handle.LinkSetIsolated(link, true)
		}
		if err != nil {
			return fmt.Errorf("cannot isolate the link %s: %w", attrs.Name, err)
		}
	}
	guest, err := s.handle.LinkByName(i.Link)
	if err != nil {
		return fmt.Errorf("cannot find %s in the container's namespace: %w", i.Link, err)
	}
	if i.Address6.IsValid() {
		if err := inNetNS(s.path, func() error { return setSysctl("net/ipv6/conf/"+i.Link+"/disable_ipv6", "0") }); err != nil {
			return err
		}
	}
	for _, a := range []netip.Prefix{i.Address, i.Address6} {
		if !a.IsValid() {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // nobody else is given it
		}
		if err := s.handle.AddrAdd(guest, addr); err != nil {
			return fmt.Errorf("cannot give %s the address %s: %w", i.Link, a, err)
		}
	}
	if err := s.handle.LinkSetUp(guest); err != nil {
		return fmt.Errorf("cannot bring %s up: %w", i.Link, err)
	}
	return nil
}

// addLinkLocal gives a link further addresses, with docker's lengths.
func (s *space) addLinkLocal(link string, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	guest, err := s.handle.LinkByName(link)
	if err != nil {
		return fmt.Errorf("cannot find %s in the container's namespace: %w", link, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 16)), Scope: unix.RT_SCOPE_LINK}
		if a.Is6() {
			addr = &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 64)), Flags: unix.IFA_F_NODAD}
			if err := inNetNS(s.path, func() error { return setSysctl("net/ipv6/conf/"+link+"/disable_ipv6", "0") }); err != nil {
				return err
			}
		}
		if err := s.handle.AddrReplace(guest, addr); err != nil {
			return fmt.Errorf("cannot give %s the address %s: %w", link, a, err)
		}
	}
	return nil
}

// setSysctls sets the kernel parameters that an end point asks for.
func (s *space) setSysctls(value, link string) error {
	if value == "" {
		return nil
	}
	all, err := moss.ParseSysctls(value, link)
	if err != nil {
		return err
	}
	return inNetNS(s.path, func() error {
		for _, p := range all {
			if err := os.WriteFile(filepath.Join("/proc/sys", p.Path), []byte(p.Value), 0); err != nil {
				return moss.Errorf(moss.Invalid, "cannot set %s=%s: %w", strings.ReplaceAll(p.Path, "/", "."), p.Value, err)
			}
		}
		return nil
	})
}
