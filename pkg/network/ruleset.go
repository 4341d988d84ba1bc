package network

import (
	"fmt"
	"net/netip"
	"strings"
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
	In, Out, NotOut string // interface names
	Source          netip.Prefix
	Destination     netip.Prefix
	States          []string // conntrack: "established", "related", "new"
	Verdict         string   // "accept", "drop" or "masquerade"
}

// Priorities of nft(8): filter and srcnat.
const (
	priorityFilter = 0
	prioritySrcNAT = 100
)

// Rules is the filter for a bridge with a subnet: containers reach each other
// and, masqueraded, the outside; from outside nothing reaches them but answers
// (published ports do not come through here: the port driver connects from the
// namespace itself); the namespace's own loopback is not theirs.
func Rules(bridge string, subnet netip.Prefix) Ruleset {
	return Ruleset{Chains: []Chain{
		{Name: "input", Type: "filter", Hook: "input", Priority: priorityFilter, Rules: []Rule{
			{In: bridge, Destination: netip.MustParsePrefix("127.0.0.0/8"), States: []string{"new"}, Verdict: "drop"},
		}},
		{Name: "forward", Type: "filter", Hook: "forward", Priority: priorityFilter, Rules: []Rule{
			{Out: bridge, States: []string{"established", "related"}, Verdict: "accept"},
			{In: bridge, Verdict: "accept"},
			{Out: bridge, Verdict: "drop"},
		}},
		{Name: "postrouting", Type: "nat", Hook: "postrouting", Priority: prioritySrcNAT, Rules: []Rule{
			{Source: subnet, NotOut: bridge, Verdict: "masquerade"},
		}},
	}}
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
	add("oifname != %q", r.NotOut)
	if r.Source.IsValid() {
		add("ip saddr %s", r.Source.String())
	}
	if r.Destination.IsValid() {
		add("ip daddr %s", r.Destination.String())
	}
	add("ct state %s", strings.Join(r.States, ","))
	return strings.Join(append(parts, r.Verdict), " ")
}
