package registry

import (
	"context"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"

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
			if p.Addr().Is4In6() && p.Bits() >= 96 { // as the addresses are looked at
				p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
			}
			if !slices.Contains(in.nets, p.Masked()) {
				in.nets = append(in.nets, p.Masked())
			}
			continue
		}
		if !isHost(s) {
			return in, moss.Errorf(moss.Invalid, "cannot use the setting %q: %q is neither host[:port] nor a network like 10.0.0.0/8", "insecure-registries", s)
		}
		in.hosts = append(in.hosts, s)
	}
	return in, nil
}

var wholeHost = regexp.MustCompile(`^(?:` + reference.DomainRegexp.String() + `)$`)

// isHost says whether s is host[:port] as it can stand in the name of an image.
func isHost(s string) bool {
	if !wholeHost.MatchString(s) {
		return false
	}
	ip, _, bracketed := strings.Cut(strings.TrimPrefix(s, "["), "]")
	_, err := netip.ParseAddr(ip)
	return !bracketed || err == nil
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
