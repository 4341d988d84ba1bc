package holder

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless"
)

// hostIPv6 is an address of this machine that others may know it by.
func hostIPv6(t *testing.T) net.IP {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil && n.IP.IsGlobalUnicast() {
			return n.IP
		}
	}
	t.Skip("this machine has no IPv6 address")
	return nil
}

func TestTapNetwork6(t *testing.T) {
	for _, ip := range []net.IP{tapAddress.IP, slirpRouter} {
		if a, _ := netip.AddrFromSlice(ip); !rootless.TapNetwork6.Contains(a) {
			t.Errorf("%s is not in %s, which networks leave out", ip, rootless.TapNetwork6)
		}
	}
}

// IPv6 goes out to the host's address, and not to its loopback.
func TestIPv6(t *testing.T) {
	unprivileged(t)
	ip := hostIPv6(t)
	m := probe(t.Context())
	for driver, can := range map[string]bool{names.DriverSlirp: m.Slirp != "", names.DriverPasta: m.Pasta != "" && m.Routed && m.Routed6} {
		t.Run(driver, func(t *testing.T) {
			if !can {
				t.Skip("this machine has not what the driver needs")
			}
			ln, err := net.Listen("tcp6", net.JoinHostPort(ip.String(), "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			local, err := net.Listen("tcp6", "[::1]:0")
			if err != nil {
				t.Fatal(err)
			}
			defer local.Close()
			for l, words := range map[net.Listener]string{ln: "the host", local: "its loopback"} {
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						_, _ = c.Write([]byte(words)) // the client notices
						c.Close()
					}
				}()
			}
			r := start(t, Config{StateDir: stateDir(t), NetworkDriver: driver, IPv6: true})
			if !r.info.IPv6 || len(r.info.DNS) == 0 || !r.info.DNS[0].Is4() || len(r.info.DNS) > 1 {
				t.Errorf("info %+v", r.info)
			}
			talk := r.talk(t)
			if got := talk("dial " + ln.Addr().String()); !strings.HasPrefix(got, "the host") {
				t.Errorf("to %s: %s", ln.Addr(), got)
			}
			for _, to := range []string{slirpRouter.String(), "::1"} {
				if got := talk("dial " + net.JoinHostPort(to, strconv.Itoa(local.Addr().(*net.TCPAddr).Port))); !strings.HasPrefix(got, "error:") {
					t.Errorf("to the host's loopback at %s: %s", to, got)
				}
			}
			testStop(t, r)
		})
	}
}
