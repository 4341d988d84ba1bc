package network

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// upstreams are the name servers of the host, as its resolv.conf(5) has them now.
type upstreams struct {
	path  string
	fixed []netip.AddrPort // those of daemon.json go before

	mu   sync.Mutex
	read version
	last []netip.AddrPort

	slow slowness
}

// version tells a file from what it was, and from another in its place: two may
// have the same size and time, where a link is turned from one to the other.
type version struct {
	dev, ino uint64
	size     int64
	changed  unix.Timespec // nobody can set it
}

// servers reads the file again when it is another one.
func (u *upstreams) servers() []netip.AddrPort {
	if len(u.fixed) > 0 {
		return u.fixed
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	var st unix.Stat_t
	err := unix.Stat(u.path, &st)
	is := version{st.Dev, st.Ino, st.Size, st.Ctim}
	if err != nil || is == u.read {
		return u.last // a file that is being replaced does not take the names away
	}
	data, err := os.ReadFile(u.path)
	if err != nil {
		return u.last
	}
	u.read, u.last = is, parseServers(string(data))
	return u.last
}

// only6 says whether all of them are reached by IPv6.
func (u *upstreams) only6() bool {
	all := u.servers()
	return len(all) > 0 && !slices.ContainsFunc(all, func(s netip.AddrPort) bool { return !s.Addr().Is6() || s.Addr().Is4In6() })
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
