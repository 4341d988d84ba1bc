package network

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// upstreams are the name servers of the host, as its resolv.conf(5) has them now.
type upstreams struct {
	path  string
	fixed []netip.AddrPort // those of daemon.json go before

	mu      sync.Mutex
	changed time.Time
	size    int64
	last    []netip.AddrPort

	slow slowness
}

// servers reads the file again when it is another one.
func (u *upstreams) servers() []netip.AddrPort {
	if len(u.fixed) > 0 {
		return u.fixed
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.path)
	if err != nil || info.ModTime().Equal(u.changed) && info.Size() == u.size {
		return u.last // a file that is being replaced does not take the names away
	}
	data, err := os.ReadFile(u.path)
	if err != nil {
		return u.last
	}
	u.changed, u.size, u.last = info.ModTime(), info.Size(), parseServers(string(data))
	return u.last
}

func parseServers(text string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	if len(out) == 0 {
		// What resolv.conf(5) says of a file that names none.
		out = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	}
	return out
}
