package wayout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds. A SYN beyond them is dropped as on a busy network: it will be sent again.
const (
	mostAttempts = 4096 // connections being made
	mostOfOne    = 1024 // those of one container's address
)

const (
	// acceptPatience is how long a container may take to answer, which its kernel does.
	acceptPatience = 15 * time.Second
	// dialPatience is longer than a kernel's own.
	dialPatience = 3 * time.Minute
	// longestBreath between attempts to accept, after one that failed.
	longestBreath = time.Second
)

// Config says what a Way works with.
type Config struct {
	// Device has one IP packet a call.
	Device io.ReadWriter
	// Dial connects to a destination from outside.
	Dial func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error)
	// Relay passes bytes on between two connections until both have ended, and closes them.
	Relay func(inside, outside *net.TCPConn)
	Log   *slog.Logger
}

// Way is the way out. It is safe for concurrent use.
type Way struct {
	cfg      Config
	patience time.Duration

	mu       sync.Mutex
	attempts map[Flow]*attempt
	dialing  map[netip.Addr]int // attempts that are not open yet, by whose they are
	pending  int                // all of them
}

// attempt is a connection that a container asks for, and then has.
type attempt struct {
	syn     syn
	packet  []byte // the latest SYN, nil once it is of no use
	state   state
	outside *net.TCPConn // while it is offered
	giveUp  *time.Timer  // the same
}

// state of an attempt.
type state int

const (
	dialed  state = iota // on its way to the destination
	offered              // it stands outside; the container's SYN is on its way to the listener
	open                 // relayed
)

// New makes a Way. It does nothing before [Way.Run] and [Way.Accept].
func New(cfg Config) *Way {
	return &Way{cfg: cfg, patience: acceptPatience, attempts: map[Flow]*attempt{}, dialing: map[netip.Addr]int{}}
}

// Run takes SYNs from the device until that fails or is closed.
func (w *Way) Run() error {
	buf := make([]byte, 1<<16)
	for {
		n, err := w.cfg.Device.Read(buf)
		if err != nil {
			return fmt.Errorf("cannot read from the way out's device: %w", err)
		}
		if s, ok := parse(buf[:n]); ok && mayLeave(s.flow.To.Addr()) {
			w.take(s, append([]byte(nil), buf[:n]...))
		}
	}
}

// mayLeave is false for what would be somebody else from the host's side than from
// the container's. The kernel routes none of these; this is not to depend on it.
func mayLeave(to netip.Addr) bool {
	return !to.Is4In6() && !to.IsLoopback() && !to.IsUnspecified() && !to.IsMulticast() &&
		!(to.Is6() && to.IsLinkLocalUnicast()) && !(to.Is4() && (to.As4()[0] == 0 || to.As4()[0] >= 240))
}

// take has a SYN. One that is repeated asks for nothing new.
func (w *Way) take(s syn, packet []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a := w.attempts[s.flow]; a != nil && (a.state != open || a.syn.seq == s.seq) {
		switch a.state {
		case dialed:
			a.syn, a.packet = s, packet
		case offered: // it was lost, or the container has begun anew
			a.syn, a.packet = s, packet
			w.write(packet)
		case open:
		}
		return
	}
	whose := s.flow.From.Addr()
	if w.pending >= mostAttempts || w.dialing[whose] >= mostOfOne {
		w.cfg.Log.Debug("too many connections are being made", "from", whose, "to", s.flow.To)
		return
	}
	w.pending++
	w.dialing[whose]++
	a := &attempt{syn: s, packet: packet}
	w.attempts[s.flow] = a
	go w.dial(s.flow, a)
}

// settledLocked is called once for each attempt: when it is open, or over before.
func (w *Way) settledLocked(f Flow) {
	w.pending--
	if w.dialing[f.From.Addr()]--; w.dialing[f.From.Addr()] == 0 {
		delete(w.dialing, f.From.Addr())
	}
}

// forgetLocked takes an attempt out, unless a newer one has its place.
func (w *Way) forgetLocked(f Flow, a *attempt) {
	if w.attempts[f] == a {
		delete(w.attempts, f)
	}
}

func (w *Way) dial(f Flow, a *attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), dialPatience)
	defer cancel()
	c, err := w.cfg.Dial(ctx, f.To)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.forgetLocked(f, a)
		w.settledLocked(f)
		w.cfg.Log.Debug("way out", "to", f.To, "error", err)
		if said := answer(a.syn, a.packet, err); said != nil {
			w.write(said)
		}
		return
	}
	a.state, a.outside = offered, c
	a.giveUp = time.AfterFunc(w.patience, func() { w.drop(f, a) })
	w.write(a.packet)
}

// answer is what tells the container of an error; nil for nothing.
func answer(s syn, packet []byte, err error) []byte {
	is := func(any ...error) bool {
		for _, e := range any {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	switch {
	case is(unix.ECONNREFUSED, unix.ECONNRESET, unix.ENOPROTOOPT):
		return refusal(s)
	case is(unix.EHOSTUNREACH, unix.EHOSTDOWN):
		return unreachable(s, packet, noHost)
	case is(unix.ENETUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT):
		return unreachable(s, packet, noNetwork)
	case is(unix.EACCES, unix.EPERM):
		return unreachable(s, packet, prohibited)
	}
	return nil // nobody has answered; or files or memory are short, which may pass until it asks again
}

// drop ends an attempt that the container has lost its interest in.
func (w *Way) drop(f Flow, a *attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.state != offered || a.outside == nil {
		return
	}
	w.forgetLocked(f, a)
	w.settledLocked(f)
	_ = a.outside.Close() // nothing was sent
	a.outside = nil
}

// write puts a packet into the device. What cannot be written is lost, as packets are.
func (w *Way) write(packet []byte) {
	if _, err := w.cfg.Device.Write(packet); err != nil {
		w.cfg.Log.Debug("way out", "error", err)
	}
}

// Accept relays what comes to a listener, until that is closed.
func (w *Way) Accept(l *net.TCPListener) error {
	breath := time.Duration(0)
	for {
		c, err := l.AcceptTCP()
		if err == nil {
			breath = 0
			w.accepted(c)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Short of files, as a rule: those of others will be closed.
		w.cfg.Log.Warn("cannot take a connection on its way out", "error", err)
		breath = min(max(2*breath, 5*time.Millisecond), longestBreath)
		<-time.After(breath)
	}
}

// accepted relays a container's connection. One that nobody has dialed for is none
// of ours.
func (w *Way) accepted(inside *net.TCPConn) {
	f := Flow{From: addrPort(inside.RemoteAddr()), To: addrPort(inside.LocalAddr())}
	w.mu.Lock()
	a := w.attempts[f]
	if a == nil || a.state != offered {
		w.mu.Unlock()
		_ = inside.SetLinger(0) // a reset, since it is an error
		_ = inside.Close()
		return
	}
	a.giveUp.Stop()
	w.settledLocked(f)
	outside := a.outside
	a.state, a.outside, a.giveUp, a.packet = open, nil, nil, nil
	w.mu.Unlock()
	go func() {
		w.cfg.Relay(inside, outside)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forgetLocked(f, a)
	}()
}

func addrPort(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
