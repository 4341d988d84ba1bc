package holder

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/rootless-containers/rootlesskit/v3/pkg/messages"
	"github.com/rootless-containers/rootlesskit/v3/pkg/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/names"
)

// ipv6Env is set where the child is to configure IPv6.
const ipv6Env = "_MOSS_HOLDER_IPV6"

// slirp4netns has one IPv6 network, rootless.TapNetwork6: its router is at ::2 and tells of itself by
// advertisements, which a namespace that forwards ignores. pasta takes any address.
var (
	tapAddress  = net.IPNet{IP: net.ParseIP("fd00::100"), Mask: net.CIDRMask(64, 128)}
	slirpRouter = net.ParseIP("fd00::2")
)

// wantsIPv6 says whether IPv6 is to go out with a driver: where it is asked for,
// and else where the host itself has a way out and the driver can.
func wantsIPv6(c Config, driver string, m machine) bool {
	return c.IPv6 || c.IPv6Auto && m.Routed6 && (driver == names.DriverSlirp || driver == names.DriverPasta)
}

// hasDefaultRoute6 reads /proc/net/ipv6_route: destination and its length,
// source and its length, next hop, metric, counters, flags, device.
func hasDefaultRoute6(r io.Reader) bool {
	const reject = "lo" // unreachable routes are on it
	for sc := bufio.NewScanner(r); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) == 10 && strings.Trim(f[0], "0") == "" && f[1] == "00" && f[9] != reject {
			return true
		}
	}
	return false
}

// ipv6Child is a driver's side in the namespaces, with IPv6: the tap gets an
// address of its own. slirp4netns gives it none, and pasta the host's, at which the
// host could not be reached then.
type ipv6Child struct {
	network.ChildDriver
	router net.IP // nil for the one that the driver has set
}

func (d ipv6Child) ConfigureNetworkChild(msg *messages.ParentInitNetworkDriverCompleted, netns string) (string, error) {
	tap, err := d.ChildDriver.ConfigureNetworkChild(msg, netns)
	if err != nil {
		return tap, err
	}
	t, err := startNSThread(netns)
	if err != nil {
		return tap, err
	}
	defer close(t.work)
	return tap, t.do(func() error { return d.configure(tap) })
}

// configure gives the tap its address and the way out; it runs in the namespace.
func (d ipv6Child) configure(tap string) error {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+tap+"/accept_ra", []byte("0"), 0); err != nil {
		return fmt.Errorf("cannot set up IPv6: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(tap)
	router := d.router
	if err == nil && router == nil {
		if router, err = takeOver(h, link); err == nil && router == nil {
			return nil // a way out without a gateway, or none: it stays as the driver has made it
		}
	}
	if err == nil {
		err = h.AddrReplace(link, &netlink.Addr{IPNet: &tapAddress, Flags: unix.IFA_F_NODAD})
	}
	if err == nil {
		err = h.RouteReplace(&netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Gw: router, Flags: int(netlink.FLAG_ONLINK),
		})
	}
	if err != nil {
		return fmt.Errorf("cannot set up IPv6 on %s: %w", tap, err)
	}
	return nil
}

// takeOver takes the addresses away that a link has, and returns the router of its
// default route; where there is none, nil, and the addresses stay.
func takeOver(h *netlink.Handle, link netlink.Link) (router net.IP, err error) {
	routes, err := h.RouteList(link, netlink.FAMILY_V6)
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if ones, _ := mask(r.Dst).Size(); ones == 0 && r.Gw != nil {
			router = r.Gw
		}
	}
	if router == nil {
		return nil, nil
	}
	addrs, err := h.AddrList(link, netlink.FAMILY_V6)
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			err = errors.Join(err, h.AddrDel(link, &a))
		}
	}
	return router, err
}

func mask(n *net.IPNet) net.IPMask {
	if n == nil {
		return net.CIDRMask(0, 128)
	}
	return n.Mask
}
