package api

import (
	"maps"
	"net"
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
			return moss.Errorf(moss.NotImplemented, "port %s cannot be published: what forwards ports for a user knows tcp and udp only; use --network host", p)
		}
		bindings := d.in.HostConfig.PortBindings[p]
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}} // docker takes it for a free port
		}
		for _, b := range bindings {
			first, last, err := hostPorts(b.HostPort)
			if err != nil {
				return err
			}
			d.out.Host.PortBindings = append(d.out.Host.PortBindings, moss.PortBinding{Port: port, HostIP: b.HostIP, HostPort: first, HostPortEnd: last})
		}
	}
	return nil
}

// hostPorts reads a port of the host, or a range of which one is to be chosen;
// last is 0 without a range.
func hostPorts(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	from, to, ranged := strings.Cut(s, "-")
	a, err := strconv.ParseUint(from, 10, 16)
	b := a
	if err == nil && ranged {
		b, err = strconv.ParseUint(to, 10, 16)
	}
	if err != nil || b < a || ranged && a == 0 {
		return 0, 0, invalid("invalid port specification: %q", s)
	}
	if b == a {
		return uint16(a), 0, nil
	}
	return uint16(a), uint16(b), nil
}

// networking reads the network mode and the end points.
func (d *createDecoder) networking() error {
	if err := d.conflicts(); err != nil {
		return err
	}
	in, out := &d.in.HostConfig.HostConfig, &d.out.Host
	var ends map[string]*network.EndpointSettings
	if d.in.NetworkingConfig != nil {
		ends = d.in.NetworkingConfig.EndpointsConfig
	}
	switch m := in.NetworkMode; {
	case (m == "" || m.IsDefault() || m.IsBridge()) && !d.in.NetworkDisabled && elsewhere(ends):
		out.NetworkMode = moss.NetworkMode(slices.Min(slices.Collect(maps.Keys(ends))))
	case (m == "" || m.IsDefault()) && d.s.o.NoBridge:
		out.NetworkMode = moss.NetworkNone
	case m == "" || m.IsDefault():
		out.NetworkMode = moss.NetworkBridge
	default:
		out.NetworkMode = moss.NetworkMode(m)
	}
	if d.in.NetworkDisabled {
		d.out.Config.NetworkDisabled = true
		if out.NetworkMode != moss.NetworkBridge && out.NetworkMode != moss.NetworkNone {
			return invalid("NetworkDisabled contradicts the network mode %s", out.NetworkMode)
		}
		out.NetworkMode = moss.NetworkNone
	}
	if (out.NetworkMode == moss.NetworkHost || out.NetworkMode == moss.NetworkNone) && (len(out.PortBindings) > 0 || out.PublishAll) {
		out.PortBindings, out.PublishAll = nil, false
		d.warnings = append(d.warnings, "Published ports are discarded when using "+string(out.NetworkMode)+" network mode")
	}
	if len(ends) > 1 && d.version.before(v1(44)) {
		return invalid("Container cannot be created with multiple network endpoints")
	}
	bridged := out.NetworkMode != moss.NetworkHost && out.NetworkMode != moss.NetworkNone
	for name, e := range ends {
		end, err := endpointOf(e)
		if err != nil {
			return err
		}
		// A container's mode has the name that was asked for here, the id later.
		main := name == string(out.NetworkMode) || name == network.NetworkDefault
		if main && (!bridged || in.NetworkMode.IsContainer()) {
			if err := unbridged(out.NetworkMode, end); err != nil {
				return err
			}
		}
		if main && reflect.ValueOf(end).IsZero() {
			continue // the mode says as much
		}
		if d.out.Endpoints == nil {
			d.out.Endpoints = map[string]moss.Endpoint{}
		}
		d.out.Endpoints[name] = end
	}
	if mac := d.in.MacAddress; mac != "" && bridged {
		if _, err := net.ParseMAC(mac); err != nil {
			return invalid("invalid MAC address: %s", mac)
		}
		name := string(out.NetworkMode)
		if _, ok := d.out.Endpoints["default"]; ok && out.NetworkMode == moss.NetworkBridge {
			name = "default"
		}
		end := d.out.Endpoints[name]
		if end.MAC != "" && end.MAC != mac {
			return invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
		}
		end.MAC = mac
		if d.out.Endpoints == nil {
			d.out.Endpoints = map[string]moss.Endpoint{}
		}
		d.out.Endpoints[name] = end
	}
	return nil
}

// elsewhere says whether end points are asked for and none in the default
// network. Who names no mode beside them wants those networks alone, as docker
// has it.
func elsewhere(ends map[string]*network.EndpointSettings) bool {
	_, bridge := ends[network.NetworkBridge]
	_, byDefault := ends[network.NetworkDefault]
	return len(ends) > 0 && !bridge && !byDefault
}

// endpointOf reads what is asked for an end point. Its other fields are what a
// daemon tells of one; clients that recreate a container send them back.
func endpointOf(e *network.EndpointSettings) (moss.Endpoint, error) {
	if e == nil {
		return moss.Endpoint{}, nil
	}
	out := moss.Endpoint{GwPriority: e.GwPriority}
	if len(e.Aliases) > 0 {
		out.Aliases = e.Aliases
	}
	if len(e.MacAddress) > 0 {
		out.MAC = e.MacAddress.String()
	}
	for key, value := range e.DriverOpts {
		var err error
		switch key {
		case moss.EndpointSysctls:
			_, err = moss.ParseSysctls(value, "eth0")
		case moss.EndpointIfname:
			err = moss.CheckIfname(value)
		default:
			err = notYet("the driver option "+key+" of an end point", "leave it out")
		}
		if err != nil {
			return out, err
		}
	}
	if len(e.DriverOpts) > 0 {
		out.DriverOpts = e.DriverOpts
	}
	for _, l := range e.Links {
		if _, err := moss.ParseLink(l); err != nil {
			return out, err
		}
		out.Links = append(out.Links, l)
	}
	ipam := e.IPAMConfig
	if ipam == nil {
		return out, nil
	}
	for _, a := range ipam.LinkLocalIPs {
		if !a.IsLinkLocalUnicast() {
			return out, invalid("invalid endpoint settings:\ninvalid link-local IP address: %s", a)
		}
		out.LinkLocal = append(out.LinkLocal, a.Unmap())
	}
	if ipam.IPv4Address.IsValid() && !ipam.IPv4Address.Is4() {
		return out, invalid("invalid endpoint settings:\ninvalid IPv4 address: %s", ipam.IPv4Address)
	}
	if ipam.IPv6Address.IsValid() && !ipam.IPv6Address.Is6() {
		return out, invalid("invalid endpoint settings:\ninvalid IPv6 address: %s", ipam.IPv6Address)
	}
	out.Address, out.Address6 = ipam.IPv4Address, ipam.IPv6Address
	return out, nil
}
