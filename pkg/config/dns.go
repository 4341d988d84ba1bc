package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/moss-containers/moss/pkg/moss"
)

// HostGateways are what "host-gateway" means, at most one of each family; none where it is for moss to find out.
func (c *Config) HostGateways() []netip.Addr {
	if c.HostGatewayIP.IsValid() {
		return []netip.Addr{c.HostGatewayIP}
	}
	return c.HostGatewayIPs
}

// validateDNS refuses what would be no line of resolv.conf(5) or hosts(5).
func (c *Config) validateDNS() error {
	for key, words := range map[string][]string{"dns-search": c.DNSSearch, "dns-opts": c.DNSOptions} {
		for _, w := range words {
			if _, err := moss.SearchDomain(w); err != nil && key == "dns-search" {
				return &Error{Key: key, Err: err}
			}
			if w == "" || strings.ContainsFunc(w, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
				return &Error{Key: key, Err: fmt.Errorf("%q is not one word", w)}
			}
		}
	}
	all := c.HostGatewayIPs
	if len(all) > 0 && c.HostGatewayIP.IsValid() {
		return &Error{Key: "host-gateway-ips", Err: errors.New("host-gateway-ip is set as well, which is the older name of the same; leave one out")}
	}
	if len(all) > 2 || len(all) == 2 && all[0].Is4() == all[1].Is4() {
		return &Error{Key: "host-gateway-ips", Err: errors.New("only one IPv4 and one IPv6 address can be used")}
	}
	return nil
}
