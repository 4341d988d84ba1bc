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
	Sets   []Set
	Chains []Chain
}

// Set has what rules look up. The rules themselves are the same however many
// networks there are: the kernel takes no more than some hundreds in one
// transaction from a user, and a network that comes or goes is a few elements.
type Set struct {
	Name     string
	Type     SetType
	Links    []string       // of the types setLinks and setPairs: one of each pair, the other is the same
	Prefixes []netip.Prefix // of the others
}

// SetType is nft(8)'s name of a set's type.
type SetType string

const (
	setLinks     SetType = "ifname"
	setPairs     SetType = "ifname . ifname"
	setPrefixes4 SetType = "ipv4_addr"
	setPrefixes6 SetType = "ipv6_addr"
)

// Names of the sets.
const (
	allLinks    = "bridges"  // of all networks
	withinLinks = "within"   // networks whose containers reach each other
	apartLinks  = "apart"    // those whose containers do not
	innerLinks  = "internal" // those without a way out
	outward4    = "outward4" // subnets that go out masqueraded
	outward6    = "outward6"
)

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
	In, Out     string // names of sets of links
	Pair        string // name of a set of pairs: in, out
	Source      string // name of a set of prefixes
	Destination netip.Prefix
	States      []string // conntrack: "established", "related", "new"
	Led         bool     // by a gate to another destination than the one asked for
	Link        string   // name of the link that it comes in by
	Asks        Asking   // whether it asks for a connection of TCP
	By          string   // name of the link that it would go out by
	Mark        uint32   // that it is given; 0 for none
	Verdict     string   // "accept", "drop" or "masquerade"
}

// Asking is whether a packet is a SYN of TCP and no answer to one.
type Asking string

const (
	asks     Asking = "=="
	asksNone Asking = "!="
)

// WayOut is the way of TCP past the holder's network driver, which the holder
// serves: what would go out by the driver's device goes there if it is marked.
type WayOut struct {
	Mark   uint32         // 0 for none
	Link   string         // where the answers to what does not come about come from
	Tap    string         // the driver's device
	Except []netip.Prefix // destinations that the driver has itself
}

// Priorities of nft(8): raw, filter and srcnat.
const (
	priorityRaw    = -300
	priorityFilter = 0
	prioritySrcNAT = 100
)

// Rules is the filter for bridge networks: their containers reach each other
// within a network and, masqueraded, the outside, unless it is internal; from
// outside, and from other networks, nothing reaches them but answers and what
// comes through a gate (published ports do not come through here otherwise: the
// port driver connects from the namespace itself); the namespace's own loopback
// is not theirs. Connections of TCP that would go out masqueraded take the way out,
// if there is one: the filter looks at them as at all else that goes out.
func Rules(way WayOut, nets ...moss.Network) Ruleset {
	all, within, apart, inner := Set{Name: allLinks, Type: setLinks}, Set{Name: withinLinks, Type: setPairs}, Set{Name: apartLinks, Type: setPairs}, Set{Name: innerLinks, Type: setLinks}
	out4, out6 := Set{Name: outward4, Type: setPrefixes4}, Set{Name: outward6, Type: setPrefixes6}
	for _, n := range nets {
		all.Links = append(all.Links, n.Link)
		if n.Isolated {
			apart.Links = append(apart.Links, n.Link)
		} else {
			within.Links = append(within.Links, n.Link)
		}
		if n.Internal {
			inner.Links = append(inner.Links, n.Link)
		}
		if n.Internal || n.NoMasquerade {
			continue
		}
		if n.Subnet.IsValid() {
			out4.Prefixes = append(out4.Prefixes, n.Subnet.Masked())
		}
		if n.Subnet6.IsValid() {
			out6.Prefixes = append(out6.Prefixes, n.Subnet6.Masked())
		}
	}
	loopback4, loopback6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	rules := Ruleset{
		Sets: []Set{all, within, apart, inner, out4, out6},
		Chains: []Chain{
			{Name: "input", Type: "filter", Hook: "input", Priority: priorityFilter, Rules: []Rule{
				{In: allLinks, Destination: loopback4, States: []string{"new"}, Verdict: "drop"},
				{In: allLinks, Destination: loopback6, States: []string{"new"}, Verdict: "drop"},
			}},
			{Name: "forward", Type: "filter", Hook: "forward", Priority: priorityFilter, Rules: []Rule{
				{States: []string{"established", "related"}, Verdict: "accept"},
				// Within a network first, then nothing from elsewhere into one: what is left of a network's goes out.
				{Pair: withinLinks, Verdict: "accept"},
				{Pair: apartLinks, Verdict: "drop"},
				{In: innerLinks, Verdict: "drop"},
				{Out: innerLinks, Verdict: "drop"},
				// Through a gate a network's containers reach what others publish.
				{Led: true, Verdict: "accept"},
				{Out: allLinks, Verdict: "drop"},
			}},
			{Name: "postrouting", Type: "nat", Hook: "postrouting", Priority: prioritySrcNAT, Rules: []Rule{
				{Pair: withinLinks, Verdict: "accept"}, // not what stays in its network
				{Source: outward4, Verdict: "masquerade"},
				{Source: outward6, Verdict: "masquerade"},
			}},
		},
	}
	if way.Mark != 0 {
		rules.lead(way)
	}
	return rules
}

// lead adds the way out.
func (s *Ruleset) lead(way WayOut) {
	first := Chain{Name: "outward", Type: "filter", Hook: "prerouting", Priority: priorityRaw, Rules: []Rule{{Asks: asksNone, Verdict: "accept"}}}
	for _, p := range way.Except {
		first.Rules = append(first.Rules, Rule{Destination: p, Verdict: "accept"})
	}
	for _, source := range []string{outward4, outward6} {
		first.Rules = append(first.Rules, Rule{In: allLinks, Source: source, Asks: asks, By: way.Tap, Mark: way.Mark, Verdict: "accept"})
	}
	for i, c := range s.Chains {
		if c.Name == "forward" {
			// Nothing remembers a SYN whose answer this is: it is the way's own.
			s.Chains[i].Rules = append([]Rule{{Link: way.Link, Verdict: "accept"}}, c.Rules...)
		}
	}
	s.Chains = append([]Chain{first}, s.Chains...)
}

// String is the ruleset as nft -f takes it, replacing what was there.
func (s Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table, table)
	for _, set := range s.Sets {
		b.WriteString(set.String())
	}
	for _, c := range s.Chains {
		b.WriteByte('\n')
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
	add("iifname %q", r.Link)
	add("iifname @%s", r.In)
	add("oifname @%s", r.Out)
	add("iifname . oifname @%s", r.Pair)
	add(map[bool]string{true: "ip6", false: "ip"}[r.Source == outward6]+" saddr @%s", r.Source)
	if r.Destination.IsValid() {
		add(family(r.Destination)+" daddr %s", r.Destination.String())
	}
	add("ct state %s", strings.Join(r.States, ","))
	if r.Led {
		parts = append(parts, "ct status dnat")
	}
	add("tcp flags & (fin|syn|rst|ack) %s syn", string(r.Asks))
	add("fib daddr oifname %q", r.By)
	if r.Mark != 0 {
		parts = append(parts, fmt.Sprintf("meta mark set %#x", r.Mark))
	}
	return strings.Join(append(parts, r.Verdict), " ")
}

func family(p netip.Prefix) string {
	if p.Addr().Is6() {
		return "ip6"
	}
	return "ip"
}

// String is the set as nft(8) has it.
func (s Set) String() string {
	var elements []string
	for _, l := range s.Links {
		if s.Type == setPairs {
			elements = append(elements, fmt.Sprintf("%q . %q", l, l))
		} else {
			elements = append(elements, fmt.Sprintf("%q", l))
		}
	}
	for _, p := range s.Prefixes {
		elements = append(elements, p.String())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\tset %s {\n\t\ttype %s\n", s.Name, s.Type)
	if s.Type == setPrefixes4 || s.Type == setPrefixes6 {
		b.WriteString("\t\tflags interval\n")
	}
	if len(elements) > 0 {
		fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(elements, ", "))
	}
	b.WriteString("\t}\n")
	return b.String()
}
