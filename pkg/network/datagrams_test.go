package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// testDaemon is a resolver at work on a socket and a file of pending queries that
// others, before it and after, have too.
func testDaemon(t *testing.T, socket *net.UDPConn, p *pending, upstream func() []netip.AddrPort) *resolver {
	t.Helper()
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		t.Fatal(err)
	}
	const network = moss.NetworkID("n")
	r := &resolver{zone: &zone{}, host: upstream, slow: &slowness{}}
	r.zone.add("one", moss.Interface{Network: network, Name: "n", Names: []string{"one"}, Address: netip.MustParsePrefix("10.0.0.1/24")})
	r.ctx, r.cancel = context.WithCancel(t.Context())
	r.view.Store(&resolverView{networks: []moss.NetworkID{network}, forward: true})
	if r.udp, err = newDatagrams(c.(*net.UDPConn), p); err != nil {
		t.Fatal(err)
	}
	return r
}

func testSocket(t *testing.T) (socket *net.UDPConn, asker *dns.Conn) {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() }) // nothing is written
	c, err := net.DialUDP("udp4", nil, socket.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return socket, &dns.Conn{Conn: c}
}

// A daemon that is killed before it has answered leaves the query in the socket.
func TestQueryStaysInItsSocketUntilItIsAnswered(t *testing.T) {
	socket, c := testSocket(t)
	send(t, c, "one", dns.TypeA)
	first := testDaemon(t, socket, openPending(nil), nil)
	buf := make([]byte, 512)
	if n, _, err := first.udp.receive(buf, unix.MSG_PEEK); err != nil || n == 0 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	// Here it is killed.
	next := testDaemon(t, socket, openPending(nil), nil)
	go next.udp.serve(next)
	if _, got, _ := receive(t, c); !slices.Equal(got, []string{"10.0.0.1"}) {
		t.Errorf("one: %q", got)
	}
	if err := errors.Join(next.udp.stop(), first.udp.conn.Close()); err != nil {
		t.Error(err)
	}
}

// A query that was taken from the socket and is on its way to a name server when
// the daemon ends is asked again by the next one.
func TestQueryOnItsWayIsAskedAgain(t *testing.T) {
	upstream, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan bool, 1)
	var answers atomic.Bool
	server := &dns.Server{PacketConn: upstream, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if !answers.Load() {
			asked <- true
			return
		}
		m := new(dns.Msg).SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 IN A 198.51.100.7") // constant
		m.Answer = append(m.Answer, rr)
		_ = w.WriteMsg(m) // the client notices
	})}
	go func() { _ = server.ActivateAndServe() }()
	defer server.Shutdown()
	servers := func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort(upstream.LocalAddr().String())}
	}
	socket, c := testSocket(t)
	memory, err := newPending()
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	share := func() *pending {
		f, err := dupFile(memory)
		if err != nil {
			t.Fatal(err)
		}
		return openPending(f)
	}
	first := testDaemon(t, socket, share(), servers)
	go first.udp.serve(first)
	send(t, c, "outside.test", dns.TypeA)
	<-asked
	first.cancel()
	if err := first.udp.stop(); err != nil {
		t.Error(err)
	}
	answers.Store(true)
	next := testDaemon(t, socket, share(), servers)
	go next.udp.serve(next)
	if _, got, m := receive(t, c); !slices.Equal(got, []string{"198.51.100.7"}) {
		t.Errorf("outside.test: %v", m)
	}
	if err := next.udp.stop(); err != nil {
		t.Error(err)
	}
	if left := share().left(); len(left) > 0 {
		t.Errorf("still noted: %v", left)
	}
}

func TestPending(t *testing.T) {
	f, err := newPending()
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("127.0.0.1:4711")
	p := openPending(f)
	var all []pendingQuery
	for range mostForwarded {
		q, ok := p.put(from, []byte("query"))
		if !ok {
			t.Fatal("no slot")
		}
		all = append(all, q)
	}
	if _, ok := p.put(from, []byte("query")); ok {
		t.Error("more slots than there are")
	}
	for _, q := range all[1:] {
		p.done(q.slot)
	}
	for _, long := range []int{slotSize - slotHead, slotSize} { // the second is too long to be kept
		if _, ok := p.put(from, []byte(strings.Repeat("x", long))); !ok {
			t.Fatal("no slot")
		}
	}
	again := openPending(f)
	left := again.left()
	if len(left) != 2 || string(left[0].query) != "query" || left[0].from != from || len(left[1].query) != slotSize-slotHead {
		t.Errorf("left: %v", left)
	}
	for _, q := range left {
		again.done(q.slot)
	}
	if left := openPending(f).left(); len(left) > 0 {
		t.Errorf("left at last: %v", left)
	}
	if err := again.close(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoQuery(t *testing.T) {
	whole, err := new(dns.Msg).SetQuestion("a.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	response, notify := slices.Clone(whole), slices.Clone(whole)
	response[2] |= 0x80
	notify[2] |= 4 << 3
	for _, test := range []struct {
		what   string
		data   []byte
		query  bool
		answer int // -1 for none
	}{
		{"a query", whole, true, -1},
		{"nothing", nil, false, -1},
		{"a part of a header", whole[:11], false, -1},
		{"a response", response, false, -1},
		{"a notification", notify, false, dns.RcodeNotImplemented},
		{"a part of a question", whole[:14], false, dns.RcodeFormatError},
	} {
		q, answer := decode(test.data)
		got := -1
		if answer != nil {
			got = answer.Rcode
		}
		if (q != nil) != test.query || got != test.answer {
			t.Errorf("%s: query %v, answer %v", test.what, q, answer)
		}
	}
}

// A name server that does not answer costs one query some impatience, and those after it nothing.
func TestDeadServers(t *testing.T) {
	dead, refusing, alive := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53"), netip.MustParseAddrPort("192.0.2.3:53")
	q := new(dns.Msg).SetQuestion("a.", dns.TypeA)
	for _, test := range []struct {
		name    string
		servers []netip.AddrPort
		took    []time.Duration // of queries one after the other
		fails   bool
	}{
		{"dead first", []netip.AddrPort{dead, alive}, []time.Duration{impatience, 0, 0}, false},
		{"refusing first", []netip.AddrPort{refusing, alive}, []time.Duration{0, 0}, false},
		{"two dead", []netip.AddrPort{dead, {}, alive}, []time.Duration{2 * impatience, 0}, false},
		{"all dead", []netip.AddrPort{dead, {}}, []time.Duration{impatience + upstreamTimeout}, true},
		{"none", nil, []time.Duration{0}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var slow slowness
				ask := func(ctx context.Context, s netip.AddrPort) (*dns.Msg, error) {
					switch s {
					case alive:
						return new(dns.Msg).SetReply(q), nil
					case refusing:
						return refuse(q), nil
					}
					ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
					defer cancel()
					<-ctx.Done()
					return nil, ctx.Err()
				}
				for i, want := range test.took {
					start := time.Now()
					answer := askAll(t.Context(), &slow, test.servers, ask)
					if took := time.Since(start); (answer == nil) != test.fails || took != want {
						t.Errorf("query %d took %s, want %s; answer %v", i, took, want, answer)
					}
				}
				time.Sleep(distrust + upstreamTimeout)
				if got := slow.sorted(test.servers); !slices.Equal(got, test.servers) {
					t.Errorf("long after: %v", got)
				}
			})
		})
	}
}

// Queries of a container, through the packet filter of its namespace; the promised figure is 20,000 a second.
func BenchmarkResolver(b *testing.B) {
	if !inNamespaces(b, "bench") {
		return
	}
	r := newRig(b, "")
	r.n = r.open(b)
	ctx := b.Context()
	made, err := r.n.Create(ctx, moss.Network{ID: moss.NetworkID(moss.NewHexID()), Name: "mynet"})
	if err != nil {
		b.Fatal(err)
	}
	c := moss.Container{ID: moss.ContainerID(moss.NewHexID()), Name: "web"}
	c.Host.NetworkMode = "mynet"
	a, err := r.n.Attach(ctx, &c)
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		conn := asker(b, a.NetNS, "udp")
		q := new(dns.Msg).SetQuestion("web.", dns.TypeA)
		for pb.Next() {
			if err := conn.WriteMsg(q); err != nil {
				b.Fatal(err)
			}
			if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
				b.Fatal(m, err)
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
	if err := errors.Join(r.n.Detach(ctx, c.ID, a), r.n.Remove(ctx, made.ID)); err != nil {
		b.Fatal(err)
	}
}

// Queries that no server answers fill what a container has for those on their way, and no more:
// the names of containers are found all the time.
func TestFlood(t *testing.T) {
	dead, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	socket, c := testSocket(t)
	memory, err := newPending()
	if err != nil {
		t.Fatal(err)
	}
	r := testDaemon(t, socket, openPending(memory), func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort(dead.LocalAddr().String())}
	})
	go r.udp.serve(r)
	// Until the first is refused, for want of a slot; a slow machine may not come to that.
	refused := false
	for round := 0; round < 50 && !refused; round++ {
		for range 100 {
			send(t, c, "outside.test", dns.TypeA)
		}
		send(t, c, "one", dns.TypeA)
		for local := false; !local; {
			rcode, got, _ := receive(t, c)
			refused = refused || rcode == dns.RcodeRefused
			local = slices.Equal(got, []string{"10.0.0.1"})
		}
	}
	r.cancel()
	if err := r.udp.stop(); err != nil {
		t.Error(err)
	}
}
