package network

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// table is the name of our nftables table, of family inet.
const table = "moss"

// Ruleset is the packet filter of the holder's namespace, as data: it can be
// written as nft(8)'s text and given to the kernel.
type Ruleset struct {
	Chains []Chain
}

// Chain is a base chain.
type Chain struct {
	Name     string
	Type     string // "filter" or "nat"
	Hook     string // "input", "forward" or "postrouting"
	Priority int
	Rules    []Rule
}

// Rule is a conjunction of matches and a verdict. A zero field matches all.
type Rule struct {
	In, Out, NotIn, NotOut string // interface names
	Source                 netip.Prefix
	Destination            netip.Prefix
	States                 []string // conntrack: "established", "related", "new"
	Led                    bool     // by a gate to another destination than the one asked for
	Verdict                string   // "accept", "drop" or "masquerade"
}

// Priorities of nft(8): filter and srcnat.
const (
	priorityFilter = 0
	prioritySrcNAT = 100
)

// Rules is the filter for bridge networks: their containers reach each other
// within a network and, masqueraded, the outside, unless it is internal; from
// outside, and from other networks, nothing reaches them but answers and what
// comes through a gate (published ports do not come through here otherwise: the
// port driver connects from the namespace itself); the namespace's own loopback
// is not theirs.
func Rules(nets ...moss.Network) Ruleset {
	input := Chain{Name: "input", Type: "filter", Hook: "input", Priority: priorityFilter}
	forward := Chain{Name: "forward", Type: "filter", Hook: "forward", Priority: priorityFilter}
	post := Chain{Name: "postrouting", Type: "nat", Hook: "postrouting", Priority: prioritySrcNAT}
	loopback4, loopback6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	for _, n := range nets {
		input.Rules = append(input.Rules, Rule{In: n.Link, Destination: loopback4, States: []string{"new"}, Verdict: "drop"})
		if n.Subnet6.IsValid() {
			input.Rules = append(input.Rules, Rule{In: n.Link, Destination: loopback6, States: []string{"new"}, Verdict: "drop"})
		}
	}
	forward.Rules = append(forward.Rules, Rule{States: []string{"established", "related"}, Verdict: "accept"})
	// Within a network first, then nothing from elsewhere into one: what is left of a network's goes out.
	for _, n := range nets {
		within := "accept"
		if n.Isolated {
			within = "drop"
		}
		if n.Internal {
			forward.Rules = append(forward.Rules, Rule{In: n.Link, NotOut: n.Link, Verdict: "drop"}, Rule{Out: n.Link, NotIn: n.Link, Verdict: "drop"})
		}
		forward.Rules = append(forward.Rules, Rule{In: n.Link, Out: n.Link, Verdict: within})
	}
	// Through a gate a network's containers reach what others publish.
	forward.Rules = append(forward.Rules, Rule{Led: true, Verdict: "accept"})
	for _, n := range nets {
		forward.Rules = append(forward.Rules, Rule{Out: n.Link, Verdict: "drop"})
	}
	for _, n := range nets {
		if n.Internal || n.NoMasquerade {
			continue
		}
		for _, subnet := range []netip.Prefix{n.Subnet, n.Subnet6} {
			if subnet.IsValid() {
				post.Rules = append(post.Rules, Rule{Source: subnet, NotOut: n.Link, Verdict: "masquerade"})
			}
		}
	}
	return Ruleset{Chains: []Chain{input, forward, post}}
}

// String is the ruleset as nft -f takes it, replacing what was there.
func (s Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table, table)
	for i, c := range s.Chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority %d; policy accept;\n", c.Name, c.Type, c.Hook, c.Priority)
		for _, r := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s\n", r)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// String is the rule as nft(8) has it.
func (r Rule) String() string {
	var parts []string
	add := func(format, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	add("iifname %q", r.In)
	add("oifname %q", r.Out)
	add("iifname != %q", r.NotIn)
	add("oifname != %q", r.NotOut)
	if r.Source.IsValid() {
		add(family(r.Source)+" saddr %s", r.Source.String())
	}
	if r.Destination.IsValid() {
		add(family(r.Destination)+" daddr %s", r.Destination.String())
	}
	add("ct state %s", strings.Join(r.States, ","))
	if r.Led {
		parts = append(parts, "ct status dnat")
	}
	return strings.Join(append(parts, r.Verdict), " ")
}

func family(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "ip6"
	}
	return "ip"
}
