package network

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// datagrams serves a resolver's UDP socket so that no query is lost where the
// daemon is killed: it looks at the first one in the socket's queue, and takes it
// from there only after it was answered, or after it was noted in pending, from
// where the next daemon has it. At worst a query is answered twice, which clients
// are used to.
type datagrams struct {
	conn    *net.UDPConn
	raw     syscall.RawConn
	pending *pending
	forward sync.WaitGroup
	ended   chan struct{}
}

func newDatagrams(conn *net.UDPConn, p *pending) (*datagrams, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &datagrams{conn: conn, raw: raw, pending: p, ended: make(chan struct{})}, nil
}

// serve answers until the connection is closed.
func (d *datagrams) serve(r *resolver) {
	defer close(d.ended)
	for _, q := range d.pending.left() {
		if m := new(dns.Msg); m.Unpack(q.query) == nil {
			d.forward.Go(func() { d.elsewhere(r, m, q) })
		} else {
			d.pending.done(q.slot)
		}
	}
	in, out := make([]byte, dns.MaxMsgSize), make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := d.receive(in, unix.MSG_PEEK)
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.EBADF):
			return
		default: // of an earlier datagram, such as an ICMP message
			continue
		}
		d.serveOne(r, in[:n], from, out)
		if _, _, err := d.receive(in[:0], unix.MSG_DONTWAIT); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (d *datagrams) receive(buf []byte, flags int) (n int, from netip.AddrPort, err error) {
	var in error
	err = d.raw.Read(func(fd uintptr) bool {
		var sa unix.Sockaddr
		n, sa, in = unix.Recvfrom(int(fd), buf, flags|unix.MSG_DONTWAIT)
		if errors.Is(in, unix.EAGAIN) || errors.Is(in, unix.EINTR) {
			return flags&unix.MSG_PEEK == 0
		}
		if four, ok := sa.(*unix.SockaddrInet4); ok {
			from = netip.AddrPortFrom(netip.AddrFrom4(four.Addr), uint16(four.Port))
		}
		return true
	})
	return n, from, errors.Join(err, in)
}

// serveOne answers a query, or has it answered later.
func (d *datagrams) serveOne(r *resolver, data []byte, from netip.AddrPort, out []byte) {
	r.noted()
	q, answer := decode(data)
	switch {
	case q == nil && answer == nil:
		return // nothing that anybody waits for an answer to
	case answer == nil:
		if answer = r.local(q); answer == nil {
			note, ok := d.pending.put(from, data)
			if !ok {
				answer = refuse(q)
				break
			}
			d.forward.Go(func() { d.elsewhere(r, q, note) })
			return
		}
	}
	d.send(q, answer, from, out)
}

func (d *datagrams) send(q, answer *dns.Msg, to netip.AddrPort, buf []byte) {
	if q != nil {
		fit(q, answer)
	}
	if data, err := answer.PackBuffer(buf); err == nil {
		_, _ = d.conn.WriteToUDPAddrPort(data, to) // who asked may be gone
	}
}

func (d *datagrams) elsewhere(r *resolver, q *dns.Msg, note pendingQuery) {
	defer r.noted()
	answer := r.elsewhere("udp", q)
	if r.ctx.Err() != nil {
		return // the next daemon answers
	}
	d.send(q, answer, note.from, nil)
	d.pending.done(note.slot)
}

// stop ends serve and waits for it; the socket's file stays where others have it.
func (d *datagrams) stop() error {
	err := d.conn.Close()
	<-d.ended
	d.forward.Wait()
	return errors.Join(err, d.pending.close())
}

// decode reads a query. What cannot be read as one is answered with the reason,
// unless it is no query at all.
func decode(data []byte) (q, answer *dns.Msg) {
	const header, response = 12, 1 << 15
	if len(data) < header {
		return nil, nil
	}
	flags := binary.BigEndian.Uint16(data[2:])
	if flags&response != 0 {
		return nil, nil
	}
	answer = new(dns.Msg)
	answer.Id, answer.Response = binary.BigEndian.Uint16(data), true
	answer.Opcode, answer.RecursionDesired = int(flags>>11&0xf), flags&(1<<8) != 0
	if answer.Opcode != dns.OpcodeQuery {
		answer.Rcode = dns.RcodeNotImplemented
		return nil, answer
	}
	q = new(dns.Msg)
	if err := q.Unpack(data); err != nil {
		answer.Rcode = dns.RcodeFormatError
		return nil, answer
	}
	return q, nil
}

// fit makes an answer as short as the client can take it in a datagram.
func fit(q, answer *dns.Msg) {
	size := uint16(dns.MinMsgSize)
	if opt := q.IsEdns0(); opt != nil {
		size = max(size, opt.UDPSize())
	}
	answer.Truncate(int(size))
}

func refuse(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) }
