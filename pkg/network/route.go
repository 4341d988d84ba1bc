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

// setRoute makes an interface's gateways those of the default routes, in place
// of what there is; one without a gateway takes them away.
func (s *space) setRoute(i moss.Interface) error {
	var index int
	if i.Link != "" {
		guest, err := s.handle.LinkByName(i.Link)
		if err != nil {
			return fmt.Errorf("cannot find %s in the container's namespace: %w", i.Link, err)
		}
		index = guest.Attrs().Index
	}
	for _, f := range []struct {
		family  int
		gateway netip.Addr
		all     *net.IPNet
	}{
		{netlink.FAMILY_V4, i.Gateway, ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))},
		{netlink.FAMILY_V6, i.Gateway6, ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))},
	} {
		if f.gateway.IsValid() {
			if err := s.handle.RouteReplace(&netlink.Route{LinkIndex: index, Dst: f.all, Gw: f.gateway.AsSlice()}); err != nil {
				return fmt.Errorf("cannot set the default route: %w", err)
			}
			if f.family == netlink.FAMILY_V4 {
				continue // replaced
			}
		}
		routes, err := s.handle.RouteList(nil, f.family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("cannot read the container's routes: %w", err)
		}
		for _, r := range routes {
			isDefault := r.Dst == nil || (r.Dst.IP.IsUnspecified() && ones(r.Dst) == 0)
			if isDefault && r.Gw != nil && (!f.gateway.IsValid() || r.LinkIndex != index) {
				if err := s.handle.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
					return fmt.Errorf("cannot take a default route away: %w", err)
				}
			}
		}
	}
	return nil
}

func ones(n *net.IPNet) int { bits, _ := n.Mask.Size(); return bits }
