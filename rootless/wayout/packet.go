package wayout

import (
	"encoding/binary"
	"net/netip"
)

// Flow is who connects to whom.
type Flow struct{ From, To netip.AddrPort }

// syn is a packet that asks for a connection.
type syn struct {
	flow Flow
	seq  uint32
	data int // bytes of data that it has with it (TCP Fast Open)
}

// Of the headers: lengths in bytes, protocols, flags of TCP.
const (
	header4, header6, headerTCP, headerICMP = 20, 40, 20, 8

	protoICMP, protoTCP, protoICMP6 = 1, 6, 58

	// Extension headers of IPv6, whose lengths are multiples of eight bytes.
	hopByHop, routing, destinationOptions = 0, 43, 60
	header6Option                         = 8

	flagFIN, flagSYN, flagRST, flagACK = 0x01, 0x02, 0x04, 0x10

	hops = 64
)

// parse reads an IP packet. It is false for all that is no whole SYN of TCP.
func parse(p []byte) (syn, bool) {
	if len(p) == 0 {
		return syn{}, false
	}
	var (
		from, to netip.Addr
		segment  []byte
	)
	switch p[0] >> 4 {
	case 4:
		if len(p) < header4 {
			return syn{}, false
		}
		ihl, total := int(p[0]&0x0f)*4, int(binary.BigEndian.Uint16(p[2:]))
		const fragment = 0x3fff // more fragments, and the offset
		if ihl < header4 || total < ihl || total > len(p) || p[9] != protoTCP || binary.BigEndian.Uint16(p[6:])&fragment != 0 {
			return syn{}, false
		}
		from, to, segment = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:])), p[ihl:total]
	case 6:
		if len(p) < header6 {
			return syn{}, false
		}
		total := header6 + int(binary.BigEndian.Uint16(p[4:]))
		if total > len(p) {
			return syn{}, false
		}
		var ok bool
		if segment, ok = behind(p[6], p[header6:total]); !ok {
			return syn{}, false
		}
		from, to = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:]))
	default:
		return syn{}, false
	}
	if len(segment) < headerTCP {
		return syn{}, false
	}
	offset, flags := int(segment[12]>>4)*4, segment[13]
	if offset < headerTCP || offset > len(segment) || flags&(flagFIN|flagSYN|flagRST|flagACK) != flagSYN {
		return syn{}, false
	}
	return syn{
		flow: Flow{
			netip.AddrPortFrom(from, binary.BigEndian.Uint16(segment[0:])), netip.AddrPortFrom(to, binary.BigEndian.Uint16(segment[2:])),
		},
		seq:  binary.BigEndian.Uint32(segment[4:]),
		data: len(segment) - offset,
	}, true
}

// behind finds the TCP segment behind the extension headers of IPv6 (RFC 8200) that
// have nothing to do with where a packet goes.
func behind(next byte, p []byte) ([]byte, bool) {
	for next != protoTCP {
		if len(p) < header6Option {
			return nil, false
		}
		const segmentsLeft = 3 // of a routing header: others are the destination
		if next != hopByHop && next != destinationOptions && (next != routing || p[segmentsLeft] != 0) {
			return nil, false
		}
		length := header6Option * (1 + int(p[1]))
		if length > len(p) {
			return nil, false
		}
		next, p = p[0], p[length:]
	}
	return p, true
}

// refusal is the answer of a host at which nobody listens.
func refusal(s syn) []byte {
	t := make([]byte, headerTCP)
	binary.BigEndian.PutUint16(t[0:], s.flow.To.Port())
	binary.BigEndian.PutUint16(t[2:], s.flow.From.Port())
	binary.BigEndian.PutUint32(t[8:], s.seq+1+uint32(s.data))
	t[12], t[13] = headerTCP/4<<4, flagRST|flagACK
	binary.BigEndian.PutUint16(t[16:], checksum(t, pseudo(s.flow.To.Addr(), s.flow.From.Addr(), protoTCP, len(t))))
	return packet(s.flow.To.Addr(), s.flow.From.Addr(), protoTCP, t)
}

// reason says why a destination cannot be reached.
type reason int

const (
	noNetwork reason = iota
	noHost
	prohibited
)

// icmpCodes are those of IPv4's destination unreachable, and of IPv6's (RFC 792, 1812, 4443).
var icmpCodes = map[reason][2]byte{noNetwork: {0, 0}, noHost: {1, 3}, prohibited: {13, 1}}

// mostQuoted is how much an ICMP error may have of the packet that it is about, so
// that it is nowhere too long.
const mostQuoted = 512

// unreachable is the ICMP error for a SYN, which it quotes.
func unreachable(s syn, about []byte, why reason) []byte {
	about = about[:min(len(about), mostQuoted)]
	b := append(make([]byte, headerICMP, headerICMP+len(about)), about...)
	from, to := s.flow.To.Addr(), s.flow.From.Addr()
	const unreachable4, unreachable6 = 3, 1
	if to.Is4() {
		b[0], b[1] = unreachable4, icmpCodes[why][0]
		binary.BigEndian.PutUint16(b[2:], checksum(b, 0))
		return packet(from, to, protoICMP, b)
	}
	b[0], b[1] = unreachable6, icmpCodes[why][1]
	binary.BigEndian.PutUint16(b[2:], checksum(b, pseudo(from, to, protoICMP6, len(b))))
	return packet(from, to, protoICMP6, b)
}

// packet puts an IP header before what it carries.
func packet(from, to netip.Addr, proto byte, body []byte) []byte {
	if to.Is4() {
		p := append(make([]byte, header4, header4+len(body)), body...)
		p[0], p[8], p[9] = 4<<4|header4/4, hops, proto
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
		copy(p[12:], from.AsSlice())
		copy(p[16:], to.AsSlice())
		binary.BigEndian.PutUint16(p[10:], checksum(p[:header4], 0))
		return p
	}
	p := append(make([]byte, header6, header6+len(body)), body...)
	p[0], p[6], p[7] = 6<<4, proto, hops
	binary.BigEndian.PutUint16(p[4:], uint16(len(body)))
	copy(p[8:], from.AsSlice())
	copy(p[24:], to.AsSlice())
	return p
}

// pseudo is the sum of the header that checksums cover without its being sent.
func pseudo(from, to netip.Addr, proto byte, length int) uint32 {
	return sum(from.AsSlice()) + sum(to.AsSlice()) + uint32(proto) + uint32(length)
}

// checksum is that of RFC 1071, over a sum and bytes in which its own field is zero.
func checksum(b []byte, start uint32) uint16 {
	total := start + sum(b)
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return ^uint16(total)
}

// sum adds words; packets are too short for it to overflow.
func sum(b []byte) (total uint32) {
	for ; len(b) > 1; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	return total
}
