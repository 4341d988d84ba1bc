package units

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestEntryAddresses(t *testing.T) {
	tcp := moss.Port{Number: 80, Proto: moss.TCP}
	at := netip.MustParseAddr("127.0.0.1")
	ports := []moss.PortBinding{{Port: tcp, HostPort: 8080}, {Port: tcp, HostIP: at, HostPort: 8081}, {Port: tcp, HostIP: netip.MustParseAddr("::ffff:127.0.0.1"), HostPort: 8082}}
	for _, test := range []struct {
		ipv6 bool
		want []string
	}{
		{true, []string{"0.0.0.0:8080", "[::]:8080", "127.0.0.1:8081", "127.0.0.1:8082"}},
		{false, []string{"0.0.0.0:8080", "127.0.0.1:8081", "127.0.0.1:8082"}},
	} {
		var got []string
		for _, a := range entryAddresses(ports, test.ipv6) {
			got = append(got, a.at.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
