package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Port is a port of the host that leads to a container.
type Port struct {
	Proto     moss.Protocol // TCP or UDP
	HostIP    netip.Addr    // 0.0.0.0 and :: are every address of one family
	HostPort  uint16
	ChildIP   netip.Addr // the container's address
	ChildPort uint16
}

// PortDriver opens ports of the host. Ports stay open when the engine ends.
type PortDriver interface {
	// Add opens a port and returns once connections are taken. Errors: Conflict for a port in
	// use by whomever, Forbidden for a privileged one, Invalid for an address that the host does not have.
	Add(ctx context.Context, p Port) (id int, err error)
	// Remove closes a port. Errors: NotFound.
	Remove(ctx context.Context, id int) error
	// List returns every open port by its id.
	List(ctx context.Context) (map[int]Port, error)
}

// freeTries is how often a free port of the host is looked for: somebody else
// may take it before the driver does.
const freeTries = 16

// Publish opens ports, all or none. A binding without an address is opened for
// IPv4 and, where the host has it, for IPv6, as docker does.
func (n *Networks) Publish(ctx context.Context, id moss.ContainerID, a moss.Attachment, ports []moss.PortBinding) ([]moss.PublishedPort, error) {
	if len(ports) == 0 {
		return nil, nil
	}
	if !a.Address.IsValid() && !a.Address6.IsValid() {
		return nil, moss.Errorf(moss.Invalid, "cannot publish ports of a container in network %q: it has no address", a.Mode)
	}
	// Whoever asks for one port gets it before those who take any.
	ports = slices.Clone(ports)
	slices.SortStableFunc(ports, func(a, b moss.PortBinding) int { return a.Choices() - b.Choices() })
	n.setPorts(id, true)
	var open []moss.PublishedPort
	for _, b := range ports {
		err := n.check(b)
		var opened []moss.PublishedPort
		if err == nil {
			opened, err = n.publish(ctx, a, b)
		}
		if err != nil {
			err = moss.Errorf(moss.ClassOf(err), "driver failed programming external connectivity on endpoint %s (%s): %w", n.name(id), a.Endpoint, err)
			return nil, errors.Join(err, n.closePorts(context.WithoutCancel(ctx), open))
		}
		open = append(open, opened...)
	}
	if err := n.openGates(id, gates(a, open)); err != nil {
		return nil, errors.Join(err, n.closeGates(id), n.closePorts(context.WithoutCancel(ctx), open))
	}
	return open, nil
}

func (n *Networks) check(b moss.PortBinding) error {
	switch {
	case b.HostPort == 0 && b.HostPortEnd != 0, b.HostPortEnd != 0 && b.HostPortEnd < b.HostPort:
		return moss.Errorf(moss.Invalid, "invalid range of host ports %d-%d", b.HostPort, b.HostPortEnd)
	case b.Port.Number == 0:
		return moss.Errorf(moss.Invalid, "invalid port 0 of the container")
	case b.Port.Proto == moss.SCTP:
		return moss.Errorf(moss.NotImplemented, "port %d/sctp cannot be published by a user: the drivers forward tcp and udp; use --network host", b.Port.Number)
	case b.Port.Proto != moss.TCP && b.Port.Proto != moss.UDP:
		return moss.Errorf(moss.Invalid, "unknown protocol %q of port %d; use tcp or udp", b.Port.Proto, b.Port.Number)
	}
	return nil
}

// publish opens one binding at each of its addresses.
func (n *Networks) publish(ctx context.Context, a moss.Attachment, b moss.PortBinding) ([]moss.PublishedPort, error) {
	ips := []netip.Addr{b.HostIP.Unmap()}
	switch {
	case b.HostIP.IsValid():
	case n.cfg.PublishIP.IsValid():
		ips[0], b.HostIP = n.cfg.PublishIP, n.cfg.PublishIP
	default:
		ips = []netip.Addr{netip.IPv4Unspecified()}
		if hostHasIPv6() {
			ips = append(ips, netip.IPv6Unspecified())
		}
	}
	switch {
	case b.HostPortEnd > b.HostPort:
		return n.publishWithin(ctx, a, b, ips)
	case b.HostPort != 0:
		return n.openAll(ctx, a, b, ips)
	}
	var err error
	for range freeTries {
		if b.HostPort, err = freePort(ctx, b); err != nil {
			return nil, err
		}
		var open []moss.PublishedPort
		if open, err = n.openAll(ctx, a, b, ips); moss.ClassOf(err) != moss.Conflict {
			return open, err
		}
	}
	return nil, err
}

// publishWithin opens the first port of a range that is free at all addresses.
func (n *Networks) publishWithin(ctx context.Context, a moss.Attachment, b moss.PortBinding, ips []netip.Addr) ([]moss.PublishedPort, error) {
	first, last := b.HostPort, b.HostPortEnd
	b.HostPortEnd = 0
	for port := int(first); port <= int(last); port++ {
		b.HostPort = uint16(port)
		if open, err := n.openAll(ctx, a, b, ips); moss.ClassOf(err) != moss.Conflict {
			return open, err
		}
	}
	return nil, moss.Errorf(moss.Conflict, "failed to bind a host port of %d-%d for %d/%s: all of them are in use", first, last, b.Port.Number, b.Port.Proto)
}

func (n *Networks) openAll(ctx context.Context, a moss.Attachment, b moss.PortBinding, ips []netip.Addr) ([]moss.PublishedPort, error) {
	var open []moss.PublishedPort
	for _, ip := range ips {
		b.HostIP = ip
		p := port(target(a, ip), b)
		err := n.isOwn(p)
		var driverID int
		if err == nil {
			driverID, err = n.cfg.Ports.Add(ctx, p)
		}
		if err != nil {
			return nil, errors.Join(bindError(p, err), n.closePorts(context.WithoutCancel(ctx), open))
		}
		open = append(open, moss.PublishedPort{Binding: b, DriverID: driverID})
	}
	return open, nil
}

// target is the container's address that a port at an address of the host leads
// to: one of the same family, where it has one, as only then it can be told the client's.
func target(a moss.Attachment, host netip.Addr) netip.Addr {
	same, other := a.Address, a.Address6
	if host.Is6() {
		same, other = other, same
	}
	if same.IsValid() {
		return same.Addr()
	}
	return other.Addr()
}

func port(to netip.Addr, b moss.PortBinding) Port {
	return Port{Proto: b.Port.Proto, HostIP: b.HostIP, HostPort: b.HostPort, ChildIP: to, ChildPort: b.Port.Number}
}

// isOwn refuses the ports that the engine listens at. While it is away they are
// free, and it could not come back if a container had them.
func (n *Networks) isOwn(p Port) error {
	for _, own := range n.cfg.Own {
		ip := own.Addr()
		if p.Proto == moss.TCP && p.HostPort == own.Port() && (ip == p.HostIP || ip.IsUnspecified() || p.HostIP.IsUnspecified() && p.HostIP.Is4() == ip.Is4()) {
			return &moss.Error{Class: moss.Conflict, Err: takenBy("the engine itself, see hosts and metrics-addr in daemon.json")}
		}
	}
	return nil
}

// takenBy is who has a port that somebody else wants.
type takenBy string

func (t takenBy) Error() string   { return "port is taken by " + string(t) }
func (t takenBy) TakenBy() string { return string(t) }

// bindError has docker's words for why a port cannot be had.
func bindError(p Port, err error) error {
	what := fmt.Sprintf("failed to bind host port for %s:%s/%s",
		netip.AddrPortFrom(p.HostIP, p.HostPort), netip.AddrPortFrom(p.ChildIP, p.ChildPort), p.Proto)
	class := moss.ClassOf(err)
	if class == moss.Conflict {
		if by, ok := errors.AsType[interface {
			error
			TakenBy() string
		}](err); ok && by.TakenBy() != "" {
			return moss.Errorf(class, "%s: address already in use by %s", what, by.TakenBy())
		}
		return moss.Errorf(class, "%s: address already in use", what)
	}
	if class == moss.Forbidden {
		return moss.Errorf(class, "%s: permission denied: ports below %s are the administrator's; "+
			"use a higher one, or have him run: sysctl net.ipv4.ip_unprivileged_port_start=%d", what, unprivilegedStart(), p.HostPort)
	}
	return moss.Errorf(class, "%s: %w", what, err)
}

// unprivilegedStart is the first port that is everybody's.
func unprivilegedStart() string {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return "1024"
	}
	return strings.TrimSpace(string(text))
}

// freePort asks the kernel for a port that nobody has.
func freePort(ctx context.Context, b moss.PortBinding) (uint16, error) {
	host := ""
	if b.HostIP.IsValid() {
		host = b.HostIP.String()
	}
	at := net.JoinHostPort(host, "0")
	var lc net.ListenConfig
	var addr net.Addr
	var closer interface{ Close() error }
	if b.Port.Proto == moss.UDP {
		c, err := lc.ListenPacket(ctx, "udp", at)
		if err != nil {
			return 0, freeError(b, err)
		}
		addr, closer = c.LocalAddr(), c
	} else {
		l, err := lc.Listen(ctx, "tcp", at)
		if err != nil {
			return 0, freeError(b, err)
		}
		addr, closer = l.Addr(), l
	}
	ap, err := netip.ParseAddrPort(addr.String())
	return ap.Port(), errors.Join(err, closer.Close())
}

func freeError(b moss.PortBinding, err error) error {
	return moss.Errorf(moss.Invalid, "cannot find a free port for %d/%s: %w", b.Port.Number, b.Port.Proto, err)
}

// hostHasIPv6 tells whether any link of the host has an IPv6 address.
func hostHasIPv6() bool {
	data, err := os.ReadFile("/proc/self/net/if_inet6")
	return err == nil && len(data) > 0
}

// closePorts closes ports that were just opened.
func (n *Networks) closePorts(ctx context.Context, open []moss.PublishedPort) error {
	var errs []error
	for _, p := range open {
		errs = append(errs, n.closePort(ctx, p.DriverID))
	}
	return errors.Join(errs...)
}

func (n *Networks) closePort(ctx context.Context, id int) error {
	if err := n.cfg.Ports.Remove(ctx, id); err != nil && moss.ClassOf(err) != moss.NotFound {
		return moss.Wrap(err, "close port", strconv.Itoa(id))
	}
	return nil
}

// unpublish closes every port that leads to the container's address. The ids in
// the record may be those of a holder that is gone; the address decides.
func (n *Networks) unpublish(ctx context.Context, id moss.ContainerID, a moss.Attachment) error {
	if !n.owns(id, a) {
		return nil
	}
	if len(a.Published) == 0 && !n.hasPorts(id) {
		return nil
	}
	errs := []error{n.closeGates(id)}
	open, err := n.cfg.Ports.List(ctx)
	if ctx.Err() == nil && moss.ClassOf(err) == moss.Unavailable { // who had them open is gone
		return errors.Join(errs...)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot list the open ports: %w", err), errors.Join(errs...))
	}
	for driverID, p := range open {
		if p.ChildIP == a.Address.Addr() || p.ChildIP == a.Address6.Addr() {
			errs = append(errs, n.closePort(ctx, driverID))
		}
	}
	return errors.Join(errs...)
}

// owns says whether the address that ports lead to is the container's.
func (n *Networks) owns(id moss.ContainerID, a moss.Attachment) bool {
	p := n.placeOf(a.Network)
	return p != nil && (a.Address.IsValid() && p.v4.owns(id, a.Address.Addr()) || a.Address6.IsValid() && p.v6.owns(id, a.Address6.Addr()))
}
