// Package entry has what both managers of units do alike to hold the ports of a
// container that its first connection starts: where to listen, and the program
// that connections are passed on by
// (docs/adr/0013-the-first-connection-starts-a-container.md).
package entry

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Address is where a socket listens, and the container's port that it leads to.
type Address struct {
	At   netip.AddrPort
	Port uint16
}

// Addresses has a binding without an address at every one, as published ports are.
func Addresses(ports []moss.PortBinding, ipv6 bool) []Address {
	var out []Address
	for _, b := range ports {
		ips := []netip.Addr{b.HostIP.Unmap()}
		if !b.HostIP.IsValid() {
			ips = []netip.Addr{netip.IPv4Unspecified()}
			if ipv6 {
				ips = append(ips, netip.IPv6Unspecified())
			}
		}
		for _, ip := range ips {
			out = append(out, Address{netip.AddrPortFrom(ip, b.HostPort), b.Port.Number})
		}
	}
	return out
}

// HasIPv6 tells whether any link of the host has an IPv6 address.
func HasIPv6() bool {
	data, err := os.ReadFile("/proc/self/net/if_inet6")
	return err == nil && len(data) > 0
}

// Listen listens there, or says why that cannot be, in docker's words.
func Listen(ctx context.Context, a Address) (*net.TCPListener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, map[bool]string{true: "tcp4", false: "tcp6"}[a.At.Addr().Is4()], a.At.String())
	if err == nil {
		return l.(*net.TCPListener), nil
	}
	class, why := moss.Invalid, err.Error()
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		class, why = moss.Conflict, "address already in use"
	case errors.Is(err, unix.EACCES):
		class = moss.Forbidden
		why = "permission denied: ports below the limit are the administrator's; use a higher one, or have him run: sysctl net.ipv4.ip_unprivileged_port_start=" + strconv.Itoa(int(a.At.Port()))
	}
	return nil, moss.Errorf(class, "failed to bind host port for %s:%d/tcp: %s", a.At, a.Port, why)
}

// Args are those of the program that passes connections on: its own, and of which
// container each of the sockets is that it is passed in this order.
func Args(program []string, h moss.HeldPorts, addrs []Address) []string {
	mode := h.Idle.String()
	if h.Listen {
		mode = "listen-fds"
	}
	args := append(append([]string{}, program...), string(h.ID), mode)
	for _, a := range addrs {
		args = append(args, strconv.Itoa(int(a.Port)))
	}
	return args
}
