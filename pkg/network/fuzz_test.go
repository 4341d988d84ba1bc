package network

import (
	"testing"

	"github.com/miekg/dns"
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
