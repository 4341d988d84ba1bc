package holder

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/rootless-containers/rootlesskit/v3/pkg/api"
	"github.com/rootless-containers/rootlesskit/v3/pkg/messages"
	"github.com/rootless-containers/rootlesskit/v3/pkg/network"
	"github.com/rootless-containers/rootlesskit/v3/pkg/network/pasta"
	"github.com/rootless-containers/rootlesskit/v3/pkg/network/slirp4netns"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless"
)

// Stack makes the two sides of gvisor-tap-vsock. It is handed in, as package gvisor
// costs memory wherever it is linked.
type Stack struct {
	Parent func(log io.Writer, mtu int, subnet *net.IPNet, hostLoopback bool) (network.ParentDriver, error)
	Child  func() network.ChildDriver
}

// parentDriver makes the host's side of the chosen network driver.
func parentDriver(c Config, ch choice) (network.ParentDriver, error) {
	log := lineWriter{c.Log.With("driver", ch.Driver)}
	var (
		d   network.ParentDriver
		err error
	)
	const tap = "" // the driver's own default, tap0
	switch ch.Driver {
	case names.DriverPasta:
		// Without implicit forwarding: ports are the builtin port driver's.
		d, err = pasta.NewParentDriver(log, ch.Binary, c.MTU, c.ipNet(), tap, "", !c.HostLoopback, c.IPv6, false)
	case names.DriverSlirp:
		// Its sandbox is at odds with a detached network namespace.
		d, err = slirp4netns.NewParentDriver(log, ch.Binary, c.MTU, c.ipNet(), tap, !c.HostLoopback, "", false, true, c.IPv6)
	case names.DriverGvisor:
		d, err = c.Stack.Parent(log, c.MTU, c.ipNet(), c.HostLoopback)
	case names.DriverNone:
		d = noneParent{}
	default:
		err = fmt.Errorf("unknown network driver %q", ch.Driver)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot set up the network driver %s: %w", ch.Driver, err)
	}
	return d, nil
}

// childDriver makes the namespaces' side of a network driver.
func childDriver(name string, ipv6 bool, stack *Stack) (network.ChildDriver, error) {
	switch name {
	case names.DriverPasta:
		if ipv6 {
			return ipv6Child{ChildDriver: pasta.NewChildDriver()}, nil
		}
		return pasta.NewChildDriver(), nil
	case names.DriverSlirp:
		if ipv6 {
			return ipv6Child{slirp4netns.NewChildDriver(), slirpRouter}, nil
		}
		return slirp4netns.NewChildDriver(), nil
	case names.DriverGvisor:
		return stack.Child(), nil
	case names.DriverNone:
		return noneChild{}, nil
	}
	return nil, fmt.Errorf("unknown network driver %q", name)
}

// noneParent and noneChild leave the namespace with its loopback device.
// rootlesskit's own driver of that name keeps a process for nothing.
type noneParent struct{}

func (noneParent) Info(context.Context) (*api.NetworkDriverInfo, error) {
	return &api.NetworkDriverInfo{Driver: names.DriverNone}, nil
}

func (noneParent) MTU() int { return 0 }

func (noneParent) ConfigureNetwork(int, string, string) (*messages.ParentInitNetworkDriverCompleted, func() error, error) {
	return &messages.ParentInitNetworkDriverCompleted{}, nil, nil
}

type noneChild struct{}

func (noneChild) ChildDriverInfo() (*network.ChildDriverInfo, error) {
	return &network.ChildDriverInfo{ConfiguresInterface: true}, nil
}

func (noneChild) ConfigureNetworkChild(*messages.ParentInitNetworkDriverCompleted, string) (string, error) {
	return "", nil
}

// recorder keeps what the driver settled on, for [rootless.Info].
type recorder struct {
	network.ParentDriver
	mu   sync.Mutex
	info rootless.Info
}

// String is what rootlesskit's errors print.
func (r *recorder) String() string { return r.recorded().NetworkDriver }

func (r *recorder) ConfigureNetwork(pid int, stateDir, netns string) (*messages.ParentInitNetworkDriverCompleted, func() error, error) {
	msg, cleanup, err := r.ParentDriver.ConfigureNetwork(pid, stateDir, netns)
	if err != nil {
		return msg, cleanup, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.info.ChildPID = pid
	r.info.MTU = msg.MTU
	r.info.ChildIP, _ = netip.ParseAddr(msg.IP)
	r.info.Gateway, _ = netip.ParseAddr(msg.Gateway)
	for _, s := range msg.DNS {
		// Containers without IPv6 use them, too.
		if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			r.info.DNS = append(r.info.DNS, a)
		}
	}
	return msg, cleanup, nil
}

func (r *recorder) recorded() rootless.Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// lineWriter hands a driver's output to the log.
type lineWriter struct{ log *slog.Logger }

var _ io.Writer = lineWriter{}

func (w lineWriter) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if line = strings.TrimSpace(line); line != "" {
			w.log.Debug(line) //nolint:sloglint // passes the driver's output on
		}
	}
	return len(p), nil
}
