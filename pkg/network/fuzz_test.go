package network

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"github.com/miekg/dns"

	"github.com/moss-containers/moss/pkg/moss"
)

// The host's resolv.conf may be anything; those that are asked have an address and a port.
func FuzzServers(f *testing.F) {
	f.Add("nameserver 1.1.1.1\nnameserver fe80::1%eth0\n# nameserver 2\n nameserver\tx")
	f.Fuzz(func(t *testing.T, text string) {
		for _, s := range parseServers(text) {
			if !s.Addr().IsValid() || s.Port() == 0 {
				t.Errorf("%q has the server %s", text, s)
			}
		}
	})
}

// FuzzDatagram: what a container and an upstream server send each other's side.
func FuzzDatagram(f *testing.F) {
	q := new(dns.Msg).SetQuestion("a.", dns.TypeA)
	q.SetEdns0(4096, true)
	packed, err := q.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Add(packed[:12])
	f.Fuzz(func(t *testing.T, data []byte) {
		q, answer := decode(data)
		if q == nil && answer == nil {
			return
		}
		if answer != nil {
			if _, err := answer.Pack(); err != nil {
				t.Errorf("%x is answered by what cannot be sent: %v", data, err)
			}
		}
	})
}

// FuzzKept: the record of a network may be anything. It is refused in words, or
// containers can be given addresses of it: each its own, within the range, of nobody else.
func FuzzKept(f *testing.F) {
	f.Add([]byte(`{"Link":"br-a","Subnet":"10.1.0.0/24","Gateway":"10.1.0.1","Subnet6":"fd00:1::/64","Gateway6":"fd00:1::1","Range":"10.1.0.254/31","Reserved":{"x":"fd00:1::2"}}`))
	f.Add([]byte(`{"Link":"br-a","Subnet":"fd00::/64","Gateway":"fd00::1","Range":"10.0.0.0/24"}`))
	f.Add([]byte(`{"Link":"br-a","Subnet6":"10.0.0.0/24","Gateway6":"10.0.0.1"}`))
	f.Add([]byte(`{"Link":"br-a","Subnet":"10.0.0.0/24"}`))
	f.Add([]byte(`{"Link":"br-a","Subnet":"10.0.0.0/24","Gateway":"10.0.0.1","Range":"fd00::/120"}`))
	f.Add([]byte(`{"Link":"br-a","Range":"10.0.0.0/8","NoIPv4":true,"Subnet6":"::ffff:10.0.0.0/104","Gateway6":"::ffff:10.0.0.1"}`))
	f.Add([]byte(`{"Link":"moss0","Name":"bridge"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var net moss.Network
		if json.Unmarshal(text, &net) != nil {
			return
		}
		if err := checkKept(net); err != nil {
			if moss.ClassOf(err) != moss.Invalid || len(err.Error()) > 4<<10 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%s: %q is %v", text, err, moss.ClassOf(err))
			}
			return
		}
		_ = macFor(moss.Interface{Address: netip.PrefixFrom(net.Gateway, net.Subnet.Bits()), Address6: netip.PrefixFrom(net.Gateway6, net.Subnet6.Bits())})
		p := newPlace(net)
		for _, pool := range []struct {
			*ipam
			subnet, within netip.Prefix
			gateway        netip.Addr
		}{{p.v4, net.Subnet, net.Range, net.Gateway}, {p.v6, net.Subnet6, net.Range6, net.Gateway6}} {
			seen := map[netip.Addr]bool{}
			for range 5 {
				got, err := pool.take("c")
				if err != nil {
					if moss.ClassOf(err) != moss.Unavailable {
						t.Errorf("%s: %v is %v", text, err, moss.ClassOf(err))
					}
					break
				}
				a := got.Addr()
				if seen[a] || a == pool.gateway || !pool.subnet.Contains(a) || pool.within.IsValid() && !pool.within.Contains(a) || a == pool.subnet.Masked().Addr() || got.Bits() != pool.subnet.Bits() {
					t.Errorf("%s gives %s", text, got)
				}
				for _, r := range net.Reserved {
					if r == a {
						t.Errorf("%s gives %s, which is reserved", text, got)
					}
				}
				if _, err := pool.claim("d", a); err == nil {
					t.Errorf("%s gives %s twice", text, a)
				}
				if a.Is4() {
					_ = macFor(moss.Interface{Address: got})
				}
				seen[a] = true
			}
		}
	})
}
