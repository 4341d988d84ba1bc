package config

import (
	"errors"
	"fmt"
	"net/netip"
)

// Bridge is how the default bridge, and the packet filter of all networks, behave.
type Bridge struct {
	Name     string     `json:"bridge"`   // none for no default network; another cannot be had
	ICC      bool       `json:"icc"`      // containers on the default bridge reach each other
	IPMasq   bool       `json:"ip-masq"`  // what leaves the default bridge has the namespace's address
	IPTables bool       `json:"iptables"` // the packet filter is ours to set
	IP       netip.Addr `json:"ip"`       // where ports are published that name no address; unless set, everywhere

	IPv6        bool         `json:"ipv6"`          // the default bridge has an IPv6 network as well
	BIP6        netip.Prefix `json:"bip6"`          // first address of that; unless set, of a range that is unique to the engine
	FixedCIDRv6 netip.Prefix `json:"fixed-cidr-v6"` // the part of bip6 that addresses are given from; without bip6, the network

	// DefaultNetworkOpts are, by driver, options of networks that do not have them.
	DefaultNetworkOpts map[string]map[string]string `json:"default-network-opts"`

	// What docker can be told to do otherwise, and moss cannot: the settings may only say how it is.
	IP6Tables     bool `json:"ip6tables"`
	IPForward     bool `json:"ip-forward"`
	UserlandProxy bool `json:"userland-proxy"`
}

// NoBridge is the name of the default bridge that stands for none.
const NoBridge = "none"

func defaultBridge() Bridge {
	return Bridge{ICC: true, IPMasq: true, IPTables: true, IP6Tables: true, IPForward: true}
}

// Subnet6 is the IPv6 network of the default bridge, and the part that addresses are given from; the
// zero Prefix where nothing is set.
func (b Bridge) Subnet6() (subnet, within netip.Prefix) {
	if b.BIP6.IsValid() {
		return b.BIP6.Masked(), b.FixedCIDRv6
	}
	return b.FixedCIDRv6, netip.Prefix{}
}

func (b Bridge) validate6() error {
	is6 := func(p netip.Prefix) bool { return p.Addr().Is6() && p.Bits() >= 16 && p.Bits() <= 126 }
	switch p, f := b.BIP6, b.FixedCIDRv6; {
	case !b.IPv6 && p.IsValid():
		return &Error{Key: "bip6", Err: errors.New("the default bridge has no IPv6: set ipv6 to true as well")}
	case !b.IPv6 && f.IsValid():
		return &Error{Key: "fixed-cidr-v6", Err: errors.New("the default bridge has no IPv6: set ipv6 to true as well")}
	case p.IsValid() && (!is6(p) || p.Addr() != p.Masked().Addr().Next()):
		return &Error{Key: "bip6", Err: fmt.Errorf("%s is not the first IPv6 address of a network for the bridge, like fd00:1::1/64", p)}
	case f.IsValid() && (!is6(f) || f != f.Masked()):
		return &Error{Key: "fixed-cidr-v6", Err: fmt.Errorf("%s is no IPv6 network, like fd00:1::/64", f)}
	case f.IsValid() && p.IsValid() && (!p.Contains(f.Addr()) || f.Bits() < p.Bits()):
		return &Error{Key: "fixed-cidr-v6", Err: fmt.Errorf("%s is not within bip6 %s", f, p)}
	}
	return nil
}

// validateFixed refuses what cannot be otherwise.
func (b Bridge) validateFixed() error {
	switch {
	case b.UserlandProxy:
		return &Error{Key: "userland-proxy", Err: errors.New("published ports have no proxy each: one process holds them all; leave it out")}
	case !b.IPForward:
		return &Error{Key: "ip-forward", Err: errors.New("the network namespace is moss's own and forwards for nobody else; for networks without a way out, make them internal")}
	case b.IPTables && !b.IP6Tables:
		return &Error{Key: "ip6tables", Err: errors.New("there is one packet filter for IPv4 and IPv6: iptables says whether moss sets it")}
	}
	for driver := range b.DefaultNetworkOpts {
		if driver != "bridge" {
			return &Error{Key: "default-network-opts", Err: fmt.Errorf("there is no network driver %q of which networks are made; the driver is bridge", driver)}
		}
	}
	return nil
}

// Masquerades says whether what leaves the default bridge is masqueraded, which
// takes the packet filter: without it docker leaves masquerading out as well.
func (b Bridge) Masquerades() bool { return b.IPMasq && b.IPTables }

func (b Bridge) validate() error {
	if b.Name != "" && b.Name != NoBridge {
		return &Error{Key: "bridge", Err: fmt.Errorf("%q would be a link of the host, which is the administrator's; moss has a bridge of its own, numbered by bip, or with %q no default network", b.Name, NoBridge)}
	}
	if !b.ICC && !b.IPTables {
		return &Error{Key: "icc", Err: errors.New("you specified iptables=false with icc=false. ICC=false uses iptables to function. Please set icc or iptables to true")}
	}
	return errors.Join(b.validate6(), b.validateFixed())
}

// conflict tells of settings, by their keys, that exclude each other.
func conflict[V any](given map[string]V) error {
	has := func(key string) bool { _, ok := given[key]; return ok }
	for _, key := range []string{"bip", "fixed-cidr", "bip6", "fixed-cidr-v6", "ipv6"} {
		if has("bridge") && has(key) {
			return &Error{Key: "bridge", Err: fmt.Errorf("you specified bridge & %s, mutually exclusive options. Please specify only one", key)}
		}
	}
	return nil
}

// conflictMasq refuses masquerading that was asked for and cannot be; where it is
// on by default alone, it is left out.
func (b Bridge) conflictMasq(given Sources) error {
	if _, ok := given["ip-masq"]; ok && b.IPMasq && !b.IPTables {
		return &Error{Key: "ip-masq", Err: errors.New("you specified iptables=false with ip-masq=true, and it is the packet filter that masquerades: leave one of them out")}
	}
	return nil
}
