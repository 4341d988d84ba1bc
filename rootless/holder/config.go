package holder

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless"
)

// DefaultMTU is what all drivers take. A bridge behind a tap of another size
// costs several times the cpu, so everything inside has it too.
const DefaultMTU = 65520

// DefaultCIDR is the network between the detached namespace and the driver.
var DefaultCIDR = netip.MustParsePrefix("10.0.2.0/24")

// Config says how to hold the namespaces.
type Config struct {
	StateDir      string       // absolute; made, and emptied of a dead holder's leftovers
	NetworkDriver string       // a rootless.Driver…; empty is auto
	MTU           int          // bytes; 0 is [DefaultMTU]
	CIDR          netip.Prefix // IPv4, /24 or wider; the zero Prefix is [DefaultCIDR]
	HostLoopback  bool         // let the driver's gateway address lead to the host's 127.0.0.1
	IPv6          bool         // IPv6 outwards (pasta, slirp4netns), or no start
	IPv6Auto      bool         // IPv6 outwards where the host has a way out and the driver can
	WayOut        bool         // TCP goes out past the driver where it can, see package wayout
	Log           *slog.Logger // nil is slog.Default()
	Stack         *Stack       `json:"-"` // nil where it is not linked: [Run] becomes moss-gvisor where it takes one
}

// longest socket name made under the state directory, and sun_path's size.
const (
	longestSocket = "/gvisortapvsock/tap.sock"
	sunPath       = 108
)

// normal checks a Config and fills in its defaults.
func (c Config) normal() (Config, error) {
	if !filepath.IsAbs(c.StateDir) {
		return c, fmt.Errorf("the holder's state directory %q is not an absolute path", c.StateDir)
	}
	c.StateDir = filepath.Clean(c.StateDir)
	if len(c.StateDir)+len(longestSocket) >= sunPath {
		return c, fmt.Errorf("the holder's state directory %q is too long for the sockets in it (%d bytes at most)", c.StateDir,
			sunPath-len(longestSocket)-1)
	}
	var err error
	if c.NetworkDriver, err = rootless.ParseDriver(c.NetworkDriver); err != nil {
		return c, err
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.MTU < 1280 || c.MTU > DefaultMTU { // the least IPv6 allows; the most slirp4netns takes
		return c, fmt.Errorf("the MTU %d is not within 1280 and %d", c.MTU, DefaultMTU)
	}
	if !c.CIDR.IsValid() {
		c.CIDR = DefaultCIDR
	}
	if !c.CIDR.Addr().Is4() || c.CIDR.Bits() > 24 || c.CIDR.Masked() != c.CIDR {
		return c, fmt.Errorf("the network %s is not an IPv4 network of /24 or wider", c.CIDR)
	}
	if c.IPv6 && c.NetworkDriver == names.DriverGvisor {
		return c, errors.New("gvisor-tap-vsock does not do IPv6: install slirp4netns or pasta, or leave IPv6 off")
	}
	if c.HostLoopback && c.NetworkDriver == names.DriverGvisor && c.CIDR != DefaultCIDR {
		return c, fmt.Errorf("gvisor-tap-vsock leads to the host's loopback on the network %s only", DefaultCIDR)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, nil
}

func (c Config) ipNet() *net.IPNet {
	return &net.IPNet{IP: c.CIDR.Addr().AsSlice(), Mask: net.CIDRMask(c.CIDR.Bits(), 32)}
}
