package api

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

func portOf(p network.Port) (moss.Port, error) {
	proto := moss.Protocol(p.Proto())
	if !slices.Contains([]moss.Protocol{moss.TCP, moss.UDP, moss.SCTP}, proto) {
		return moss.Port{}, invalid("invalid proto: %s", proto)
	}
	if p.Num() == 0 {
		return moss.Port{}, invalid("invalid port 0/%s: want 1 to 65535", proto)
	}
	return moss.Port{Number: p.Num(), Proto: proto}, nil
}

func sortedPorts[V any](m map[network.Port]V) []network.Port {
	return slices.SortedFunc(maps.Keys(m), func(a, b network.Port) int {
		return comparePorts(a.Num(), string(a.Proto()), b.Num(), string(b.Proto()))
	})
}

func comparePorts(an uint16, ap string, bn uint16, bp string) int {
	if an != bn {
		return int(an) - int(bn)
	}
	return strings.Compare(ap, bp)
}

// ports reads the exposed and the published ports.
func (d *createDecoder) ports() error {
	for _, p := range sortedPorts(d.in.ExposedPorts) {
		port, err := portOf(p)
		if err != nil {
			return err
		}
		d.out.Config.ExposedPorts = append(d.out.Config.ExposedPorts, port)
	}
	for _, p := range sortedPorts(d.in.HostConfig.PortBindings) {
		port, err := portOf(p)
		if err != nil {
			return err
		}
		if port.Proto == moss.SCTP {
			return notYet("publishing SCTP ports ("+p.String()+")", "use --network host")
		}
		bindings := d.in.HostConfig.PortBindings[p]
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}} // docker takes it for a free port
		}
		for _, b := range bindings {
			n, err := hostPort(b.HostPort)
			if err != nil {
				return err
			}
			d.out.Host.PortBindings = append(d.out.Host.PortBindings, moss.PortBinding{Port: port, HostIP: anyAddr(b.HostIP), HostPort: n})
		}
	}
	return nil
}

// anyAddr is the zero Addr for 0.0.0.0: every address, as an empty one means.
func anyAddr(a netip.Addr) netip.Addr {
	if a == netip.IPv4Unspecified() {
		return netip.Addr{}
	}
	return a
}

func hostPort(s string) (uint16, error) {
	if s == "" {
		return 0, nil
	}
	if strings.Contains(s, "-") {
		return 0, notYet("choosing a host port from a range ("+s+")", "name one port, or none for any free one")
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, invalid("invalid port specification: %q", s)
	}
	return uint16(n), nil
}

// networking reads the network mode and the end points, of which there may be
// one, for the same network, without wishes.
func (d *createDecoder) networking() error {
	if err := d.joining(); err != nil {
		return err
	}
	in, out := &d.in.HostConfig.HostConfig, &d.out.Host
	switch m := in.NetworkMode; {
	case m == "" || m.IsDefault():
		out.NetworkMode = moss.NetworkBridge
	default:
		out.NetworkMode = moss.NetworkMode(m)
	}
	if d.in.NetworkDisabled {
		if out.NetworkMode != moss.NetworkBridge && out.NetworkMode != moss.NetworkNone {
			return invalid("NetworkDisabled contradicts the network mode %s", out.NetworkMode)
		}
		out.NetworkMode = moss.NetworkNone
	}
	if (out.NetworkMode == moss.NetworkHost || out.NetworkMode == moss.NetworkNone) && (len(out.PortBindings) > 0 || out.PublishAll) {
		out.PortBindings, out.PublishAll = nil, false
		d.warnings = append(d.warnings, "Published ports are discarded when using "+string(out.NetworkMode)+" network mode")
	}
	if d.in.NetworkingConfig == nil {
		return nil
	}
	ends := d.in.NetworkingConfig.EndpointsConfig
	if len(ends) > 1 {
		return notYet("more than one network for a container", "name one")
	}
	for name, e := range ends {
		if name != string(out.NetworkMode) && !(name == network.NetworkDefault && out.NetworkMode == moss.NetworkBridge) {
			return invalid("the end point's network %q is not the network mode %q: they must be the same", name, out.NetworkMode)
		}
		if err := refuseEndpoint(e); err != nil {
			return err
		}
	}
	return nil
}

// refuseEndpoint refuses wishes for an end point. Its other fields are what a
// daemon tells of one; clients that recreate a container send them back.
func refuseEndpoint(e *network.EndpointSettings) error {
	if e == nil {
		return nil
	}
	fixed := e.IPAMConfig != nil && !reflect.DeepEqual(*e.IPAMConfig, network.EndpointIPAMConfig{})
	return first(
		func() error {
			return refuseIf(fixed, "fixed addresses (--ip)", "leave it out; the container gets a free one")
		},
		func() error {
			return refuseIf(len(e.Links) > 0, "--link", "publish a port of the other container and reach it there")
		},
		func() error {
			return refuseIf(len(e.Aliases) > 0, "--network-alias", "leave it out; it needs networks of your own")
		},
		func() error {
			return refuseIf(len(e.DriverOpts) > 0, "driver options of an end point", "leave them out")
		},
		func() error {
			return refuseIf(e.GwPriority != 0, "gateway priorities", "leave it out; there is one network")
		},
		func() error { return refuseIf(len(e.MacAddress) > 0, "--mac-address", "leave it out") },
	)
}
