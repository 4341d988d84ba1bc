package holder

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/rootless-containers/rootlesskit/v3/pkg/messages"
	"github.com/rootless-containers/rootlesskit/v3/pkg/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/rootless"
)

// ipv6Env is set where the child is to configure IPv6.
const ipv6Env = "_MOSS_HOLDER_IPV6"

// slirp4netns has one IPv6 network: its router is at ::2 and tells of itself by
// advertisements, which a namespace that forwards ignores.
var (
	slirpAddress = net.IPNet{IP: net.ParseIP("fd00::100"), Mask: net.CIDRMask(64, 128)}
	slirpRouter  = net.ParseIP("fd00::2")
)

// wantsIPv6 says whether IPv6 is to go out with a driver: where it is asked for,
// and else where the host itself has a way out and the driver can.
func wantsIPv6(c Config, driver string, m machine) bool {
	return c.IPv6 || c.IPv6Auto && m.Routed6 && (driver == rootless.DriverSlirp || driver == rootless.DriverPasta)
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

// slirpChild is slirp4netns's side in the namespaces, with IPv6.
type slirpChild struct{ network.ChildDriver }

func (d slirpChild) ConfigureNetworkChild(msg *messages.ParentInitNetworkDriverCompleted, netns string) (string, error) {
	tap, err := d.ChildDriver.ConfigureNetworkChild(msg, netns)
	if err != nil {
		return tap, err
	}
	t, err := startNSThread(netns)
	if err != nil {
		return tap, err
	}
	defer close(t.work)
	return tap, t.do(func() error { return routeIPv6(tap) })
}

// routeIPv6 gives the tap its address and the way out; it runs in the namespace.
func routeIPv6(tap string) error {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+tap+"/accept_ra", []byte("0"), 0); err != nil {
		return fmt.Errorf("cannot set up IPv6: %w", err)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(tap)
	if err == nil {
		err = h.AddrReplace(link, &netlink.Addr{IPNet: &slirpAddress, Flags: unix.IFA_F_NODAD})
	}
	if err == nil {
		err = h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Gw: slirpRouter})
	}
	if err != nil {
		return fmt.Errorf("cannot set up IPv6 on %s: %w", tap, err)
	}
	return nil
}
