package network

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HostAddress is the host's own address as others see it: a server that listens
// there, or everywhere, is reached by containers; one at the host's loopback
// is not. The zero Addr where the host has none.
func HostAddress() netip.Addr {
	// No packet is sent: the kernel tells which address it would send from.
	if routes, err := netlink.RouteGet(net.IPv4(1, 1, 1, 1)); err == nil {
		for _, r := range routes {
			if a, ok := netip.AddrFromSlice(r.Src); ok && !a.Unmap().IsLoopback() {
				return a.Unmap()
			}
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return netip.Addr{}
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagUp == 0 || l.Attrs().Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if ip, ok := netip.AddrFromSlice(a.IP); ok && a.Scope == unix.RT_SCOPE_UNIVERSE {
				return ip.Unmap()
			}
		}
	}
	return netip.Addr{}
}
