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
}

// NoBridge is the name of the default bridge that stands for none.
const NoBridge = "none"

func defaultBridge() Bridge { return Bridge{ICC: true, IPMasq: true, IPTables: true} }

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
	return nil
}

// conflict tells of settings, by their keys, that exclude each other.
func conflict[V any](given map[string]V) error {
	has := func(key string) bool { _, ok := given[key]; return ok }
	for _, key := range []string{"bip", "fixed-cidr"} {
		if has("bridge") && has(key) {
			return &Error{Key: "bridge", Err: fmt.Errorf("you specified bridge & %s, mutually exclusive options. Please specify only one", key)}
		}
	}
	return nil
}
