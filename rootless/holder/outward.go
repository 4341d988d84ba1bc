package holder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/rootless/wayout"
)

// The way out (package wayout) in the network namespace. Whoever sets the packet
// filter marks the SYNs that are to take it; without our part the mark means
// nothing. What is marked is not tracked and goes to a tun, where the Way reads it;
// what the Way writes goes to its listener if it is a SYN, and to the container
// otherwise. The listener has the address that the container asked for: no packet
// is changed, and nothing of a connection needs to be remembered but that it is
// to be delivered here.
//
// Names, marks, table and priorities are this package's; package network must not
// use others of the kind but the mark and the device that [rootless.WayOut] names.
const (
	outwardLink     = "moss-out"
	outwardMark     = 0x6d6f7333 // "mos3": a SYN that is to take the way
	outwardConnMark = 0x6d6f7334 // of connections that have taken it, and of their SYNs on the way back
	outwardRoutes   = 0x6d70     // a table
	outwardPrio     = 88         // and one more
	outwardTable    = "moss-way-out"
	outwardBacklog  = 4096
)

// requestOutward asks the child for the way out. The answer is empty when it is there.
const requestOutward = "way-out"

// goesPast says whether TCP goes out past a network driver: gvisor-tap-vsock is for
// machines that have nothing else.
func goesPast(driver string) bool {
	return driver == names.DriverSlirp || driver == names.DriverPasta
}

// outwardOf says what whoever sets the packet filter needs to know.
func outwardOf(c Config) *rootless.WayOut {
	return &rootless.WayOut{
		Mark: outwardMark, Link: outwardLink, Tap: "tap0",
		// The driver's own, with its name server and what may be the host's loopback; a link is nobody else's.
		Except: []netip.Prefix{c.CIDR, rootless.TapNetwork6, netip.MustParsePrefix("fe80::/10")},
	}
}

// outward is the way out at work.
type outward struct {
	log       *slog.Logger
	ns        *nsThread
	device    *os.File
	listeners []*net.TCPListener
}

// startOutward sets the way out up and serves it until the process ends.
func startOutward(ns *nsThread, log *slog.Logger) error {
	o := &outward{log: log, ns: ns}
	if err := ns.do(o.setup); err != nil {
		return errors.Join(err, o.close())
	}
	way := wayout.New(wayout.Config{Device: o.device, Dial: dialOut, Relay: relay, Log: log})
	for _, l := range o.listeners {
		go func() { _ = way.Accept(l) }() // until it is closed
	}
	go func() {
		err := way.Run()
		log.Error("TCP goes out through the network driver again", "error", errors.Join(err, ns.do(removeOutward), o.close()))
	}()
	return nil
}

func (o *outward) close() error {
	var errs []error
	if o.device != nil {
		errs = append(errs, o.device.Close())
	}
	for _, l := range o.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// dialOut connects from the host.
func dialOut(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{KeepAliveConfig: outwardKeepAlive}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// outwardKeepAlive finds out what is gone without a word, such as a container's namespace.
var outwardKeepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 8}

// setup runs in the namespace. What it has made before it fails binds nobody: the
// rules come last.
func (o *outward) setup() error {
	var err error
	if o.device, err = openTun(outwardLink); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(outwardLink)
	if err != nil {
		return fmt.Errorf("cannot find the way out's device: %w", err)
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("cannot find the loopback device: %w", err)
	}
	if err := anySource(outwardLink); err != nil {
		return err
	}
	// So large that nothing has to be split, and without IPv6 chatter of its own.
	err = errors.Join(h.LinkSetMTU(link, DefaultMTU), sysctl("net/ipv6/conf/"+outwardLink+"/addr_gen_mode", "1"),
		sysctl("net/ipv6/conf/"+outwardLink+"/disable_ipv6", "0"))
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("cannot set the way out's device up: %w", err)
	}
	ports := map[int]uint16{}
	for _, f := range []struct {
		family int
		at     netip.Addr
		all    *net.IPNet
	}{
		{netlink.FAMILY_V4, netip.MustParseAddr("127.0.0.1"), &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}},
		{netlink.FAMILY_V6, netip.IPv6Loopback(), &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}},
	} {
		l, err := listenOutward(f.at)
		if err == nil {
			o.listeners = append(o.listeners, l)
			ports[f.family] = uint16(l.Addr().(*net.TCPAddr).Port)
			err = routeOutward(h, link, lo, f.family, f.all)
		}
		if err != nil && f.family == netlink.FAMILY_V6 && without6(err) {
			delete(ports, f.family)
			continue
		}
		if err != nil {
			return err
		}
	}
	return leadOutward(ports)
}

// without6 says whether it is IPv6 that the kernel does not have.
func without6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// openTun makes a device that has one IP packet a read; it goes when it is closed.
func openTun(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make the device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil // non-blocking: the runtime polls it
}

// anySource lets packets come from a device whose source is elsewhere. The kernel
// takes the stricter of what is set for it and for all: what is set for all is set
// for each of the others instead, and for those to come.
func anySource(name string) error {
	const dir = "/proc/sys/net/ipv4/conf"
	read := func(of string) (int, error) {
		data, err := os.ReadFile(filepath.Join(dir, of, "rp_filter"))
		if err != nil {
			return 0, fmt.Errorf("cannot read rp_filter: %w", err)
		}
		return strconv.Atoi(string(data[:1]))
	}
	all, err := read("all")
	if err != nil {
		return err
	}
	if all > 0 {
		links, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("cannot read rp_filter: %w", err)
		}
		for _, l := range links {
			if was, err := read(l.Name()); err == nil && was < all && l.Name() != "all" {
				err = sysctl("net/ipv4/conf/"+l.Name()+"/rp_filter", strconv.Itoa(all))
				if err != nil {
					return err
				}
			}
		}
		if err := sysctl("net/ipv4/conf/all/rp_filter", "0"); err != nil {
			return err
		}
	}
	return sysctl("net/ipv4/conf/"+name+"/rp_filter", "0")
}

// sysctl sets a parameter of the namespace; one that the kernel does not have is none.
func sysctl(name, value string) error {
	err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot set %s: %w", name, err)
	}
	return nil
}

// listenOutward listens at an address where only the rules lead to.
func listenOutward(at netip.Addr) (*net.TCPListener, error) {
	fd, err := unix.Socket(family(at), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "way out")
	defer f.Close() // duplicated
	level, opt := unix.SOL_IP, unix.IP_TRANSPARENT
	if at.Is6() {
		level, opt = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	err = unix.SetsockoptInt(fd, level, opt, 1)
	if err == nil {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(at, 0)))
	}
	if err == nil {
		err = unix.Listen(fd, outwardBacklog)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen for connections on their way out: %w", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for connections on their way out: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// routeOutward routes what is marked to the device, and what comes from there to
// this machine if the rules have given it a listener; all else goes on as usual.
func routeOutward(h *netlink.Handle, link, lo netlink.Link, family int, all *net.IPNet) error {
	if err := routeLocally(h, lo, family, all); err != nil {
		return err
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Table: outwardRoutes, Scope: netlink.SCOPE_LINK, Family: family}
	if err := h.RouteReplace(route); err != nil {
		return fmt.Errorf("cannot add the route to the way out's device: %w", err)
	}
	for _, r := range outwardRouting(family) {
		if err := addRule(h, r); err != nil {
			return err
		}
	}
	return nil
}

// outwardRouting has the mark of what comes back count only for the device: sockets
// take it over from their SYN, and what they send is to go to the container.
func outwardRouting(family int) []*netlink.Rule {
	out, back := netlink.NewRule(), netlink.NewRule()
	out.Family, out.Mark, out.Table, out.Priority = family, outwardMark, outwardRoutes, outwardPrio
	back.Family, back.Mark, back.Table, back.Priority, back.IifName = family, outwardConnMark, routeTable, outwardPrio+1, outwardLink
	return []*netlink.Rule{out, back}
}

// leadOutward sets our rules, which are apart from the packet filter's.
func leadOutward(ports map[int]uint16) error {
	return replaceTable(outwardTable, func(c *nftables.Conn, table *nftables.Table) {
		chain := func(name string, priority *nftables.ChainPriority) *nftables.Chain {
			return c.AddChain(&nftables.Chain{
				Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: priority,
			})
		}
		// After the one who marks, before the connections are looked up.
		first, then := chain("marked", new(*nftables.ChainPriorityRaw+10)), chain("back", nftables.ChainPriorityMangle)
		for _, r := range outwardRules(ports) {
			at := then
			if r.first {
				at = first
			}
			c.AddRule(&nftables.Rule{Table: table, Chain: at, Exprs: r.exprs})
		}
	})
}

// outwardExprs is a rule of the first of our chains or of the other.
type outwardExprs struct {
	first bool
	exprs []expr.Any
}

func outwardRules(ports map[int]uint16) []outwardExprs {
	mark := func(m uint32) []byte { return binaryutil.NativeEndian.PutUint32(m) }
	is := func(load expr.Any, value []byte) []expr.Any {
		return []expr.Any{load, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, outwardLink)
	in := &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}
	// meta mark outwardMark notrack
	all := []outwardExprs{{true, append(is(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, mark(outwardMark)), &expr.Notrack{})}}
	for _, f := range []struct {
		family int
		proto  byte
		to     netip.Addr
	}{
		{netlink.FAMILY_V4, unix.NFPROTO_IPV4, netip.MustParseAddr("127.0.0.1")},
		{netlink.FAMILY_V6, unix.NFPROTO_IPV6, netip.IPv6Loopback()},
	} {
		port, ok := ports[f.family]
		if !ok {
			continue
		}
		// iifname moss-out meta nfproto … tcp flags & (fin|syn|rst|ack) == syn
		//	ct mark set outwardConnMark meta mark set outwardConnMark tproxy to address:port accept
		var exprs []expr.Any
		exprs = append(exprs, is(in, name)...)
		exprs = append(exprs, is(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, []byte{f.proto})...)
		exprs = append(exprs, is(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, []byte{unix.IPPROTO_TCP})...)
		exprs = append(
			exprs,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x17}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0x02}},
			&expr.Immediate{Register: 1, Data: mark(outwardConnMark)},
			&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true},
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
			&expr.Immediate{Register: 1, Data: f.to.AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		)
		exprs = append(exprs, &expr.TProxy{Family: f.proto, TableFamily: unix.NFPROTO_INET, RegAddr: 1, RegPort: 2}, &expr.Verdict{Kind: expr.VerdictAccept})
		all = append(all, outwardExprs{exprs: exprs})
	}
	// All of such a connection is delivered here.
	return append(all, outwardExprs{exprs: deliverHere(outwardConnMark)})
}

// removeOutward makes the mark mean nothing again; it runs in the namespace.
func removeOutward() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot open netlink: %w", err)
	}
	defer h.Close()
	var errs []error
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		for _, r := range outwardRouting(family) {
			if err := h.RuleDel(r); err != nil && (family == netlink.FAMILY_V4 || !without6(err) && !errors.Is(err, unix.ENOENT)) {
				errs = append(errs, err)
			}
		}
	}
	c, err := nftables.New()
	if err == nil {
		c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: outwardTable})
		err = c.Flush()
	}
	return errors.Join(append(errs, err)...)
}
