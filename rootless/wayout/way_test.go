package wayout

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// device is a tun's other side.
type device struct{ in, out chan []byte }

func (d device) Read(b []byte) (int, error) {
	p, ok := <-d.in
	if !ok {
		return 0, io.EOF
	}
	return copy(b, p), nil
}

func (d device) Write(p []byte) (int, error) {
	d.out <- append([]byte(nil), p...)
	return len(p), nil
}

// rig is a Way whose connections are made as the test says.
type rig struct {
	*Way
	device  device
	asked   chan netip.AddrPort
	results chan error // of dialing, one each
	outside chan *net.TCPConn
	relayed chan [2]*net.TCPConn
	over    chan error
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		device: device{make(chan []byte), make(chan []byte, 16)}, asked: make(chan netip.AddrPort, 16), results: make(chan error, 16),
		outside: make(chan *net.TCPConn, 16), relayed: make(chan [2]*net.TCPConn, 16), over: make(chan error, 1),
	}
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	r.Way = New(Config{
		Device: r.device, Log: slog.New(slog.DiscardHandler),
		Dial: func(_ context.Context, to netip.AddrPort) (*net.TCPConn, error) {
			r.asked <- to
			if err := <-r.results; err != nil {
				return nil, err
			}
			c, err := net.Dial("tcp4", server.Addr().String())
			if err != nil {
				return nil, err
			}
			other, err := server.Accept()
			if err == nil {
				r.outside <- other.(*net.TCPConn)
			}
			return c.(*net.TCPConn), err
		},
		Relay: func(inside, outside *net.TCPConn) { r.relayed <- [2]*net.TCPConn{inside, outside} },
	})
	go func() { r.over <- r.Run() }()
	return r
}

const patience = time.Minute

func receive[T any](t *testing.T, c chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("no " + what)
	}
	return v
}

// Errors of dialing, as the container gets to know them.
func TestAnswers(t *testing.T) {
	for err, want := range map[error]func(p []byte) bool{
		unix.ECONNREFUSED: func(p []byte) bool { return p[9] == protoTCP && p[header4+13] == flagRST|flagACK },
		unix.EHOSTUNREACH: func(p []byte) bool { return p[9] == protoICMP && p[header4] == 3 && p[header4+1] == 1 },
		unix.ENETUNREACH:  func(p []byte) bool { return p[9] == protoICMP && p[header4] == 3 && p[header4+1] == 0 },
		unix.EACCES:       func(p []byte) bool { return p[9] == protoICMP && p[header4] == 3 && p[header4+1] == 13 },
	} {
		r := newRig(t)
		r.device.in <- syn4
		if to := receive(t, r.asked, "dial"); to != netip.MustParseAddrPort("192.0.2.1:80") {
			t.Errorf("dialed: %s", to)
		}
		r.results <- &net.OpError{Op: "dial", Err: err}
		if p := receive(t, r.device.out, "answer"); !want(p) {
			t.Errorf("%v: % x", err, p)
		}
		close(r.device.in)
		if err := receive(t, r.over, "end"); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
}

// No answer is none, and the next SYN is a new question.
func TestSilence(t *testing.T) {
	for _, err := range []error{unix.ETIMEDOUT, unix.EMFILE, context.DeadlineExceeded} {
		r := newRig(t)
		r.device.in <- syn4
		receive(t, r.asked, "dial")
		r.results <- err
		for again := true; again; { // until it is forgotten, a SYN is a repeated one
			r.device.in <- syn4
			select {
			case <-r.asked:
				again = false
			case p := <-r.device.out:
				t.Fatalf("%v: % x", err, p)
			case <-time.After(time.Millisecond):
			}
		}
		r.results <- unix.ECONNREFUSED
		receive(t, r.device.out, "answer")
		if r.pending != 0 || len(r.dialing) != 0 || len(r.attempts) != 0 {
			t.Errorf("left: %d, %v, %v", r.pending, r.dialing, r.attempts)
		}
	}
}

// What the container asks for again while it is being dialed is one connection; the
// latest SYN goes back, and only when it stands.
func TestRepeated(t *testing.T) {
	r := newRig(t)
	later := packet(netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("192.0.2.1"), protoTCP, segment(40000, 80, 7, flagSYN, nil))
	for _, p := range [][]byte{syn4, syn4, later} {
		r.device.in <- p
	}
	r.device.in <- []byte{0} // the last one has been looked at
	receive(t, r.asked, "dial")
	if len(r.asked) != 0 || len(r.device.out) != 0 {
		t.Fatalf("%d more dialed, %d packets", len(r.asked), len(r.device.out))
	}
	r.results <- nil
	if s, ok := parse(receive(t, r.device.out, "SYN")); !ok || s.seq != 7 {
		t.Errorf("%v, %v", s, ok)
	}
	r.device.in <- later // was lost
	if s, ok := parse(receive(t, r.device.out, "SYN once more")); !ok || s.seq != 7 {
		t.Errorf("%v, %v", s, ok)
	}
	if len(r.asked) != 0 {
		t.Error("dialed twice")
	}
}

// accept plays the kernel: a connection to the listener, whose SYN the Way has seen.
func (r *rig) accept(t *testing.T, known bool) (client *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.DialTCP("tcp4", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	inside, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	if known { // loopback may not leave: as though it were another address
		s := syn{flow: Flow{addrPort(c.LocalAddr()), addrPort(l.Addr())}, seq: 1}
		r.take(s, syn4)
		receive(t, r.asked, "dial")
		r.results <- nil
		receive(t, r.device.out, "SYN")
	}
	r.accepted(inside)
	return c
}

func TestAccepted(t *testing.T) {
	r := newRig(t)
	c := r.accept(t, true)
	both := receive(t, r.relayed, "relay")
	if both[0].RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("inside is %s", both[0].RemoteAddr())
	}
	outside := receive(t, r.outside, "connection outside")
	if both[1].LocalAddr().String() != outside.RemoteAddr().String() {
		t.Errorf("outside is %s", both[1].LocalAddr())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending != 0 || len(r.dialing) != 0 {
		t.Errorf("left: %d, %v", r.pending, r.dialing)
	}
}

// Nobody gets in who was not asked for.
func TestNotAsked(t *testing.T) {
	r := newRig(t)
	c := r.accept(t, false)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
}

// A container that is gone by then: the connection outside ends.
func TestGivenUp(t *testing.T) {
	r := newRig(t)
	r.patience = time.Millisecond
	r.device.in <- syn4
	receive(t, r.asked, "dial")
	r.results <- nil
	receive(t, r.device.out, "SYN")
	outside := receive(t, r.outside, "connection outside")
	if err := outside.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := outside.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending != 0 || len(r.dialing) != 0 || len(r.attempts) != 0 {
		t.Errorf("left: %d, %v, %v", r.pending, r.dialing, r.attempts)
	}
}

// One container's attempts have a bound, and others go on.
func TestBound(t *testing.T) {
	r := newRig(t)
	to := netip.MustParseAddrPort("192.0.2.1:80")
	r.asked = make(chan netip.AddrPort, 2*mostOfOne)
	for port := range uint16(mostOfOne + 10) {
		r.take(syn{flow: Flow{netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), port+1), to}}, syn4)
	}
	if r.pending != mostOfOne {
		t.Errorf("%d are being made", r.pending)
	}
	r.take(syn{flow: Flow{netip.MustParseAddrPort("10.1.0.3:1"), to}}, syn4)
	if r.pending != mostOfOne+1 {
		t.Errorf("%d with another's", r.pending)
	}
}

func TestMayLeave(t *testing.T) {
	for _, a := range []string{"192.0.2.1", "10.1.2.3", "169.254.169.254", "2001:db8::1", "fd00:1::1"} {
		if !mayLeave(netip.MustParseAddr(a)) {
			t.Errorf("%s may not", a)
		}
	}
	for _, a := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1",
		"::1", "::", "::ffff:127.0.0.1", "::ffff:192.0.2.1", "ff02::1", "fe80::1",
	} {
		if mayLeave(netip.MustParseAddr(a)) {
			t.Errorf("%s may", a)
		}
	}
}
