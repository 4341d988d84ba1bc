package registry

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// insecure tells which registries need not prove who they are and may talk
// plain HTTP.
type insecure struct {
	hosts []string // with the port, as in names of images
	nets  []netip.Prefix
}

func parseInsecure(list []string) (insecure, error) {
	in := insecure{nets: slices.Clone(loopback)}
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			if !slices.Contains(in.nets, p.Masked()) {
				in.nets = append(in.nets, p.Masked())
			}
			continue
		}
		host, _, hasPort := strings.Cut(s, ":")
		if host == "" || strings.Contains(s, "/") || (hasPort && strings.HasSuffix(s, ":")) {
			return in, moss.Errorf(moss.Invalid, "cannot use the setting %q: %q is neither host[:port] nor a network like 10.0.0.0/8", "insecure-registries", s)
		}
		in.hosts = append(in.hosts, s)
	}
	return in, nil
}

// is says whether a registry is insecure, as docker does: by its name with the
// port, or when one of its addresses is in one of the networks.
func (in insecure) is(ctx context.Context, host string) bool {
	if slices.Contains(in.hosts, host) {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == dockerHub {
		return false // however its name resolves
	}
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return in.has(a)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	return err == nil && slices.ContainsFunc(addrs, in.has)
}

func (in insecure) has(a netip.Addr) bool {
	return slices.ContainsFunc(in.nets, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}
