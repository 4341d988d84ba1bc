package entry_test

import (
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/moss-containers/moss/pkg/entry"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestAddresses(t *testing.T) {
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
		for _, a := range entry.Addresses(ports, test.ipv6) {
			got = append(got, a.At.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestListen(t *testing.T) {
	l, err := entry.Listen(t.Context(), entry.Address{At: netip.MustParseAddrPort("127.0.0.1:0"), Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := netip.MustParseAddrPort(l.Addr().String())
	_, err = entry.Listen(t.Context(), entry.Address{At: at, Port: 80})
	want := "failed to bind host port for 127.0.0.1:" + strconv.Itoa(int(at.Port())) + ":80/tcp: address already in use"
	if moss.ClassOf(err) != moss.Conflict || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
