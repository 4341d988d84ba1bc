package network

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// The filter of very many networks goes to the kernel as one transaction: a
// user's sockets are small, and with rules for each network it ended at 33.
func TestFilterOfManyNetworks(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	var nets []moss.Network
	for i := range 1000 {
		nets = append(nets, moss.Network{
			Link: fmt.Sprintf("br-%012x", i), Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i / 256), byte(i), 0}), 24),
			Subnet6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 14: byte(i / 256), 15: byte(i)}), 128),
		})
	}
	if err := inNetNS(r.cfg.NetNS, func() error { return apply(Rules(nets...)) }); err != nil {
		t.Error(err)
	}
	if err := r.n.filter(); err != nil { // again that of the networks there are
		t.Error(err)
	}
}

func TestPast(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.0.0/24": "10.1.1.0", "10.0.0.0/8": "11.0.0.0", "10.1.255.0/24": "10.2.0.0", "10.0.0.4/30": "10.0.0.8", "fd00::/64": "fd00:0:0:1::", "fd00::1/128": "fd00::2",
	} {
		if got, _ := netip.AddrFromSlice(past(netip.MustParsePrefix(text))); got.String() != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
