package network

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// testSockets is a descriptor store in memory.
type testSockets struct {
	mu    sync.Mutex
	files map[string][]*os.File
}

func (s *testSockets) Put(name string, files ...*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range files {
		c, err := dup(f)
		if err != nil {
			return err
		}
		s.files[name] = append(s.files[name], c)
	}
	return nil
}

func dup(f *os.File) (*os.File, error) {
	if pc, err := net.FilePacketConn(f); err == nil {
		defer pc.Close()
		return pc.(*net.UDPConn).File()
	}
	if !isSocket(f) {
		return dupFile(f)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.(*net.TCPListener).File()
}

func dupFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	return os.NewFile(uintptr(fd), f.Name()), err
}

func (s *testSockets) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files[name] {
		f.Close()
	}
	delete(s.files, name)
	return nil
}

func (s *testSockets) Take(name string) (out []*os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files[name] {
		if !isSocket(f) {
			c, _ := dupFile(f) // a nil one fails the test
			out = append(out, c)
			continue
		}
		if pc, err := net.FilePacketConn(f); err == nil {
			c, _ := pc.(*net.UDPConn).File() // a nil one fails the test
			pc.Close()
			out = append(out, c)
		}
	}
	return out
}

func (s *testSockets) Listeners(name string) (out []net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files[name] {
		if l, err := net.FileListener(f); err == nil {
			out = append(out, l)
		}
	}
	return out
}

func (s *testSockets) Names() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.files {
		out = append(out, name)
	}
	return out
}

// asker is a socket in a container's namespace.
func asker(t testing.TB, netns, network string) *dns.Conn {
	t.Helper()
	return askerAt(t, netns, network, moss.ResolverAddr)
}

func askerAt(t testing.TB, netns, network string, server netip.Addr) *dns.Conn {
	t.Helper()
	var c net.Conn
	err := inNetNS(netns, func() (err error) {
		c, err = (&net.Dialer{}).DialContext(t.Context(), network, netip.AddrPortFrom(server, dnsPort).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &dns.Conn{Conn: c}
}

func send(t *testing.T, c *dns.Conn, name string, kind uint16) {
	t.Helper()
	if err := c.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *dns.Conn) (rcode int, data []string, whole *dns.Msg) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range m.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return m.Rcode, data, m
}

func TestResolver(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	r := newRig(t, "")
	store := &testSockets{files: map[string][]*os.File{}}
	r.cfg.Sockets = store
	r.n = r.open(t)
	ctx := t.Context()
	upstream, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: upstream, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name == "outside.test." {
			rr, _ := dns.NewRR("outside.test. 60 IN A 198.51.100.7") // constant
			m.Answer = append(m.Answer, rr)
		} else {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m) // the client notices
	})}
	go func() { _ = server.ActivateAndServe() }()
	defer server.Shutdown()
	outside := []netip.AddrPort{netip.MustParseAddrPort(upstream.LocalAddr().String())}
	r.n.upstreams.fixed = outside

	nets := []moss.Network{}
	for _, net := range []moss.Network{
		{ID: moss.NetworkID(moss.NewHexID()), Name: "mynet", IPv6: true},
		{ID: moss.NetworkID(moss.NewHexID()), Name: "inner", Internal: true},
	} {
		made, err := r.n.Create(ctx, net)
		if err != nil {
			t.Fatal(err)
		}
		nets = append(nets, made)
	}
	attached := map[moss.ContainerID]moss.Attachment{}
	start := func(name, network string, aliases ...string) moss.Container {
		t.Helper()
		c := moss.Container{ID: moss.ContainerID(moss.NewHexID()), Name: name, Endpoints: map[string]moss.Endpoint{network: {Aliases: aliases}}}
		c.Host.NetworkMode, c.Config.Hostname = moss.NetworkMode(network), "host-"+name
		a, err := r.n.Attach(ctx, &c)
		if err != nil {
			t.Fatal(err)
		}
		attached[c.ID] = a
		return c
	}
	web, db, shut := start("web", "mynet", "svc"), start("db", "mynet", "svc"), start("shut", "inner")
	aWeb, aDB := attached[web.ID], attached[db.ID]
	if !slices.Equal(aWeb.DNS, []netip.Addr{moss.ResolverAddr}) {
		t.Fatalf("resolv.conf gets %v", aWeb.DNS)
	}
	webV4, dbV4, dbV6 := aWeb.Address.Addr().String(), aDB.Address.Addr().String(), aDB.Address6.Addr().String()
	reverse, err := dns.ReverseAddr(dbV6)
	if err != nil {
		t.Fatal(err)
	}
	reverse4, err := dns.ReverseAddr(dbV4)
	if err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		c := asker(t, aWeb.NetNS, network)
		for _, test := range []struct {
			name  string
			kind  uint16
			rcode int
			want  []string
		}{
			{"db", dns.TypeA, 0, []string{dbV4}},
			{"DB.mynet", dns.TypeA, 0, []string{dbV4}},
			{"db", dns.TypeAAAA, 0, []string{dbV6}},
			{"db", dns.TypeMX, 0, nil},
			{db.ID.Short(), dns.TypeA, 0, []string{dbV4}},
			{"host-db", dns.TypeA, 0, []string{dbV4}},
			{reverse, dns.TypePTR, 0, []string{"db.mynet."}},
			{reverse4, dns.TypePTR, 0, []string{"db.mynet."}},
		} {
			send(t, c, test.name, test.kind)
			if rcode, got, _ := receive(t, c); rcode != test.rcode || !slices.Equal(got, test.want) {
				t.Errorf("%s %s %s: %d %q, want %d %q", network, test.name, dns.TypeToString[test.kind], rcode, got, test.rcode, test.want)
			}
		}
	}
	c := asker(t, aWeb.NetNS, "udp")
	for name, want := range map[string][]string{"outside.test": {"198.51.100.7"}, "nobody": nil, "shut": nil} {
		send(t, c, name, dns.TypeA)
		if rcode, got, _ := receive(t, c); !slices.Equal(got, want) || (want == nil) != (rcode == dns.RcodeNameError) {
			t.Errorf("%s: %d %q, want %q", name, rcode, got, want)
		}
	}
	firsts := map[string]bool{}
	for range 2 {
		send(t, c, "svc", dns.TypeA)
		_, got, _ := receive(t, c)
		if len(got) != 2 {
			t.Fatalf("svc: %q", got)
		}
		firsts[got[0]] = true
	}
	if !firsts[webV4] || !firsts[dbV4] {
		t.Errorf("the first of svc is always the same: %v", firsts)
	}
	// Another name counts at once, and the old one no more; aliases stay.
	db.Name = "store"
	renamed := r.n.Rename(&db, aDB)
	for name, want := range map[string][]string{"store": {dbV4}, "db": nil, db.ID.Short(): {dbV4}, reverse4: nil} {
		send(t, c, name, dns.TypeA)
		if _, got, _ := receive(t, c); !slices.Equal(got, want) {
			t.Errorf("after the renaming, %s: %q, want %q", name, got, want)
		}
	}
	if len(renamed.Names) == 0 || renamed.Names[0] != "store" || slices.Contains(renamed.Names, "db") || !slices.Contains(renamed.Names, "svc") || aDB.Names[0] != "db" {
		t.Errorf("names: %q, before: %q", renamed.Names, aDB.Names)
	}
	db.Name = "db"
	attached[db.ID] = r.n.Rename(&db, renamed)
	// An internal network has no way out for names either.
	inner := asker(t, attached[shut.ID].NetNS, "udp")
	send(t, inner, "outside.test", dns.TypeA)
	if rcode, _, _ := receive(t, inner); rcode != dns.RcodeServerFailure {
		t.Errorf("outside.test on an internal network: %d", rcode)
	}
	// What the container serves itself is at port 53.
	listen(t, aWeb.NetNS, "0.0.0.0:53")
	// Rubbish is not answered with an end.
	if _, err := c.Write([]byte("rubbish")); err != nil {
		t.Fatal(err)
	}

	// The daemon goes, and a query is asked meanwhile.
	if err := r.n.Close(); err != nil {
		t.Fatal(err)
	}
	c = asker(t, aWeb.NetNS, "udp")
	send(t, c, "db", dns.TypeA)
	again := r.open(t)
	again.upstreams.fixed = outside
	if err := again.Adopt(ctx, nets); err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(ctx, attached); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := receive(t, c); !slices.Equal(got, []string{dbV4}) {
		t.Errorf("db, asked while nobody was there: %q", got)
	}
	for id, a := range attached {
		if err := again.Detach(ctx, id, a); err != nil {
			t.Fatal(err)
		}
	}
	if len(store.Names()) > 0 {
		t.Errorf("sockets left: %q", store.Names())
	}
	for _, n := range nets {
		if err := again.Remove(ctx, n.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.n = again
}

// Where the host has its names by IPv6 only, the driver's name server has none for
// containers on the default bridge: the engine answers in its place.
func TestNamesByIPv6Only(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	socket, err := net.ListenPacket("udp6", "[::1]:53")
	if err != nil {
		t.Skip("no IPv6: ", err)
	}
	server := &dns.Server{PacketConn: socket, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 198.51.100.7") // of a name that was read
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m) // the client notices
	})}
	go func() { _ = server.ActivateAndServe() }()
	defer server.Shutdown()
	r := newRig(t, "")
	driver, store := netip.MustParseAddr("10.0.2.3"), &testSockets{files: map[string][]*os.File{}}
	host := filepath.Join(t.TempDir(), "resolv.conf")
	servers := func(all ...string) {
		t.Helper()
		text := "nameserver " + strings.Join(all, "\nnameserver ") + "\n"
		if err := errors.Join(os.WriteFile(host+".new", []byte(text), 0o600), os.Rename(host+".new", host)); err != nil {
			t.Fatal(err)
		}
	}
	servers("192.0.2.1", "::1")
	r.cfg.DNS, r.cfg.ResolvConf, r.cfg.Sockets = []netip.Addr{driver}, host, store
	r.n = r.open(t)
	one := moss.Container{ID: moss.ContainerID(moss.NewHexID()), Name: "one"}
	a, err := r.n.Attach(t.Context(), &one)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.DNS, []netip.Addr{driver}) || stoodIn(t, r.cfg.NetNS) {
		t.Fatalf("resolv.conf gets %v, want %v; the driver's name server is stood in for: %v", a.DNS, driver, stoodIn(t, r.cfg.NetNS))
	}
	// It runs while the host's servers change.
	servers("::1")
	within(t, "nobody stands in", func() bool { return stoodIn(t, r.cfg.NetNS) })
	for _, name := range []string{"outside.test", "one"} { // on the default bridge nobody has a name
		ask := askerAt(t, a.NetNS, "udp", driver)
		send(t, ask, name, dns.TypeA)
		if _, got, _ := receive(t, ask); !slices.Equal(got, []string{"198.51.100.7"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	tcp := askerAt(t, a.NetNS, "tcp", driver)
	send(t, tcp, "outside.test", dns.TypeA)
	if rcode, _, _ := receive(t, tcp); rcode != dns.RcodeServerFailure { // the host's server has no TCP
		t.Errorf("by TCP: %d", rcode)
	}
	// The daemon goes, and a query is asked meanwhile.
	if err := r.n.Close(); err != nil {
		t.Fatal(err)
	}
	ask := askerAt(t, a.NetNS, "udp", driver)
	send(t, ask, "outside.test", dns.TypeA)
	r.n = r.open(t)
	if err := r.n.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{one.ID: a}); err != nil {
		t.Fatal(err)
	}
	if _, got, _ := receive(t, ask); !slices.Equal(got, []string{"198.51.100.7"}) {
		t.Errorf("asked while nobody was there: %q", got)
	}
	// The driver does it again, also where the daemon was not there for the change.
	servers("192.0.2.1")
	within(t, "it is stood in for", func() bool { return !stoodIn(t, r.cfg.NetNS) })
	servers("::1")
	within(t, "nobody stands in again", func() bool { return stoodIn(t, r.cfg.NetNS) })
	if err := r.n.Close(); err != nil {
		t.Fatal(err)
	}
	servers("192.0.2.1")
	r.n = r.open(t)
	if err := r.n.Restore(t.Context(), map[moss.ContainerID]moss.Attachment{one.ID: a}); err != nil {
		t.Fatal(err)
	}
	if stoodIn(t, r.cfg.NetNS) || len(store.Names()) > 0 {
		t.Errorf("the driver's name server is stood in for, with the sockets %q", store.Names())
	}
	if err := r.n.Detach(t.Context(), one.ID, a); err != nil {
		t.Fatal(err)
	}
}

// stoodIn says whether queries to the driver's name server are led elsewhere.
func stoodIn(t *testing.T, netns string) (is bool) {
	t.Helper()
	if err := inNetNS(netns, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTablesOfFamily(nftables.TableFamilyIPv4)
		is = slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == standInTable })
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return is
}

// within waits until something is so that nothing tells of.
func within(t *testing.T, not string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatal(not)
		}
		runtime.Gosched()
	}
}

func TestTruncated(t *testing.T) {
	z := &zone{}
	const network = moss.NetworkID("n")
	for i := range 60 {
		z.add(moss.ContainerID(string(rune('a'+i))), moss.Interface{
			Network: network, Name: "n", Names: []string{"svc"}, Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 24),
		})
	}
	r := &resolver{zone: z}
	r.view.Store(&resolverView{networks: []moss.NetworkID{network}})
	for _, test := range []struct {
		all  bool
		edns uint16
	}{{false, 0}, {true, 4096}} {
		q := new(dns.Msg).SetQuestion("svc.", dns.TypeA)
		if test.edns > 0 {
			q.SetEdns0(test.edns, false)
		}
		m := r.local(q)
		fit(q, m)
		if m.Truncated == test.all || (len(m.Answer) == 60) != test.all {
			t.Errorf("%d bytes: truncated %v, %d answers", test.edns, m.Truncated, len(m.Answer))
		}
	}
}

func FuzzResolver(f *testing.F) {
	q, err := new(dns.Msg).SetQuestion("4.3.2.1.in-addr.arpa.", dns.TypePTR).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	r := &resolver{zone: &zone{}}
	r.view.Store(&resolverView{})
	f.Fuzz(func(t *testing.T, data []byte) {
		q, m := decode(data)
		if q == nil && m == nil { // no query
			return
		}
		if m == nil {
			if m = r.local(q); m == nil {
				m = r.elsewhere("udp", q)
			}
			fit(q, m)
		}
		out, err := m.Pack()
		if err != nil {
			return // of what cannot be packed, nothing is sent
		}
		if len(out) < 12 || out[0] != data[0] || out[1] != data[1] || out[2]&0x80 == 0 {
			t.Errorf("%x: no answer: %x", data, out)
		}
	})
}

func TestServers(t *testing.T) {
	path := t.TempDir() + "/resolv.conf"
	u := &upstreams{path: path}
	for i, test := range []struct{ text, want string }{
		{"nameserver 192.0.2.1\nsearch a\nnameserver fe80::1%lo\n", "[192.0.2.1:53 [fe80::1%lo]:53]"},
		{"nameserver 127.0.0.53\n", "[127.0.0.53:53]"},
		{"", "[127.0.0.1:53]"},
	} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(i+1), 0)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range u.servers() {
			got = append(got, s.String())
		}
		if text := "[" + strings.Join(got, " ") + "]"; text != test.want {
			t.Errorf("%q: %s, want %s", test.text, text, test.want)
		}
	}
}

// What an earlier resolver's sockets were led to gives way.
func TestRedirectAgain(t *testing.T) {
	if !inNamespaces(t, "run") {
		return
	}
	path := filepath.Join(t.TempDir(), "ns")
	s, err := makeNetNS(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	t.Cleanup(func() {
		if err := removeNetNS(path); err != nil {
			t.Error(err)
		}
	})
	for port := uint16(4000); port < 4003; port++ {
		if err := inNetNS(path, func() error { return ofContainer(port, port).set() }); err != nil {
			t.Fatal(err)
		}
		if err := inNetNS(path, func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			of := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: table}
			rules, err := c.GetRules(of, &nftables.Chain{Name: "resolver", Table: of})
			if len(rules) != 2 {
				t.Errorf("%d rules", len(rules))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// As systemd-resolved and NetworkManager have it: a link that is turned to
// another file, which has the size and the time of the first; and no file for a while.
func TestServersBehindALink(t *testing.T) {
	dir := t.TempDir()
	u := &upstreams{path: dir + "/resolv.conf"}
	for name, text := range map[string]string{"stub": "nameserver 127.0.0.53\n", "real": "nameserver 192.0.2.53\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir+"/"+name, time.Time{}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct{ to, want string }{
		{"stub", "127.0.0.53:53"}, {"real", "192.0.2.53:53"}, {"nowhere", "192.0.2.53:53"}, {"stub", "127.0.0.53:53"}, {"", "127.0.0.53:53"}, {"real", "192.0.2.53:53"},
	} {
		if err := os.Remove(u.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if step.to != "" {
			if err := os.Symlink(step.to, u.path); err != nil {
				t.Fatal(err)
			}
		}
		if got := u.servers(); len(got) != 1 || got[0].String() != step.want {
			t.Errorf("by way of %q: %v, want %s", step.to, got, step.want)
		}
	}
}
