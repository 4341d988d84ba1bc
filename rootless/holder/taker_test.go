package holder

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port"
)

func TestSockets(t *testing.T) {
	const tcp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 4711 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F91 0100007F:A000 01 00000000:00000000 00:00000000 00000000  1001        0 4712 1 0000000000000000 20 4 30 10 -1
   2: nonsense
   3: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0000000000000000 100 0 0 10 0
`
	got := sockets(strings.NewReader(tcp), false)
	want := []socket{{netip.MustParseAddrPort("127.0.0.1:8080"), 1001, "4711"}, {netip.MustParseAddrPort("[::1]:80"), 0, "4713"}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("listening: %+v, want %+v", got, want)
	}
	if got := sockets(strings.NewReader(tcp), true); len(got) != 3 {
		t.Errorf("as UDP: %+v", got)
	}
}

func TestHinders(t *testing.T) {
	for _, tc := range []struct {
		at, want, family string
		hinders          bool
	}{
		{"127.0.0.1:80", "127.0.0.1", "4", true},
		{"127.0.0.1:80", "192.0.2.1", "4", false},
		{"127.0.0.1:80", "0.0.0.0", "4", true},
		{"0.0.0.0:80", "127.0.0.1", "4", true},
		{"127.0.0.1:80", "::", "6", false},
		{"[::]:80", "127.0.0.1", "4", true},
		{"[::1]:80", "0.0.0.0", "4", false},
		{"[::1]:80", "", "", true},
		{"127.0.0.1:81", "127.0.0.1", "4", false},
	} {
		want, _ := netip.ParseAddr(tc.want) // "" is all
		if got := (socket{at: netip.MustParseAddrPort(tc.at)}).hinders(want, tc.family, 80); got != tc.hinders {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// This test itself has the ports.
func TestTaker(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	want := "(process " + strconv.Itoa(os.Getpid()) + ")"
	for proto, port := range map[string]int{"tcp4": ln.Addr().(*net.TCPAddr).Port, "udp4": udp.LocalAddr().(*net.UDPAddr).Port} {
		if got := taker("/proc", spec(proto, "0.0.0.0", port)); !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q, want %q", proto, got, want)
		}
		if got := taker("/proc", spec(proto, "127.0.0.2", port)); got != "" {
			t.Errorf("%s at another address: %q", proto, got)
		}
	}
}

func spec(proto, ip string, n int) port.Spec {
	return port.Spec{Proto: proto, ParentIP: ip, ParentPort: n, ChildPort: 80}
}
