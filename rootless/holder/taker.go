package holder

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/rootless"
)

// tellingTaker is a port driver whose errors name the program that has a port.
// Only this process can find out: the daemon is in a user namespace from which
// the host's processes cannot be looked into.
type tellingTaker struct {
	port.ParentDriver
	proc string // /proc
}

func (d tellingTaker) AddPort(ctx context.Context, spec port.Spec) (*port.Status, error) {
	s, err := d.ParentDriver.AddPort(ctx, spec)
	if errors.Is(err, unix.EADDRINUSE) {
		// The kernel's table is read in pieces: what changes meanwhile may hide a line.
		for range 3 {
			if who := taker(d.proc, spec); who != "" {
				return s, fmt.Errorf("%w%s%s", err, rootless.TakenBy, who)
			}
		}
	}
	return s, err
}

// taker says who has a socket that keeps spec from being listened at; "" where
// that cannot be found.
func taker(proc string, spec port.Spec) string {
	proto, family := strings.TrimRight(spec.Proto, "46"), strings.TrimLeft(spec.Proto, "tcpud")
	want, _ := netip.ParseAddr(spec.ParentIP) // invalid: all addresses
	if spec.ParentIP == "" {
		family = ""
	}
	var socks []socket
	for _, v := range []string{"", "6"} {
		f, err := os.Open(filepath.Join(proc, "net", proto+v))
		if err != nil {
			continue // without IPv6
		}
		socks = append(socks, sockets(f, proto == "udp")...)
		f.Close()
	}
	socks = slices.DeleteFunc(socks, func(s socket) bool { return !s.hinders(want, family, spec.ParentPort) })
	for _, s := range socks {
		if who := openedBy(proc, s.inode); who != "" {
			return who
		}
	}
	for _, s := range socks {
		if int(s.uid) != os.Getuid() {
			name := "user " + strconv.Itoa(int(s.uid))
			if u, err := user.LookupId(strconv.Itoa(int(s.uid))); err == nil {
				name = u.Username
			}
			return "a program of " + name
		}
	}
	return ""
}

// socket is a line of /proc/net/tcp and its like, see proc(5).
type socket struct {
	at    netip.AddrPort
	uid   uint32
	inode string
}

// hinders says whether nobody else can listen at a port of an address, or of
// all addresses, of one family ("4", "6") or both, while the socket is there.
func (s socket) hinders(want netip.Addr, family string, port int) bool {
	if int(s.at.Port()) != port {
		return false
	}
	ip := s.at.Addr()
	switch {
	case ip == want, !want.IsValid():
		return true
	case ip.IsUnspecified() && ip.Is6(): // as a rule it is IPv4's as well
		return true
	case ip.Is4() && family == "6", ip.Is6() && family == "4":
		return false
	}
	return ip.IsUnspecified() || want.IsUnspecified()
}

// sockets reads those that listen; of UDP it is all.
func sockets(r io.Reader, udp bool) []socket {
	var out []socket
	for sc := bufio.NewScanner(r); sc.Scan(); {
		// sl local_address rem_address st queues timer retransmits uid timeout inode …
		f := strings.Fields(sc.Text())
		if len(f) < 10 || !udp && f[3] != "0A" {
			continue
		}
		host, port, _ := strings.Cut(f[1], ":")
		ip, err := kernelAddr(host)
		n, err2 := strconv.ParseUint(port, 16, 16)
		uid, err3 := strconv.ParseUint(f[7], 10, 32)
		if errors.Join(err, err2, err3) == nil {
			out = append(out, socket{netip.AddrPortFrom(ip, uint16(n)), uint32(uid), f[9]})
		}
	}
	return out
}

// kernelAddr reads an address as the kernel prints it: words of the machine's order.
func kernelAddr(s string) (netip.Addr, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return netip.Addr{}, err
	}
	for i := 0; i+4 <= len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	ip, ok := netip.AddrFromSlice(b)
	if !ok {
		return ip, fmt.Errorf("%q is no address", s)
	}
	return ip.Unmap(), nil
}

// openedBy names the process that has a socket open, among those we may look into.
func openedBy(proc, inode string) string {
	fds, err := filepath.Glob(filepath.Join(proc, "[0-9]*/fd"))
	if err != nil {
		return ""
	}
	for _, dir := range fds {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // another user's, or gone
		}
		for _, e := range entries {
			if to, err := os.Readlink(filepath.Join(dir, e.Name())); err != nil || to != "socket:["+inode+"]" {
				continue
			}
			pid := filepath.Base(filepath.Dir(dir))
			comm, err := os.ReadFile(filepath.Join(proc, pid, "comm"))
			if err != nil {
				continue
			}
			return moss.Shown(string(comm)) + " (process " + pid + ")"
		}
	}
	return ""
}
