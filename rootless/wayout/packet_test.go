package wayout

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// A SYN of 10.1.0.2:40000 to 192.0.2.1:80 as a kernel sends it, with its options.
var syn4 = packet(netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("192.0.2.1"), protoTCP, segment(40000, 80, 0x01020304, flagSYN, nil))

var syn6 = packet(netip.MustParseAddr("fd00:1::2"), netip.MustParseAddr("2001:db8::1"), protoTCP, segment(40000, 80, 0x01020304, flagSYN|0xc0, []byte("data")))

func segment(from, to uint16, seq uint32, flags byte, data []byte) []byte {
	t := make([]byte, headerTCP+4)
	binary.BigEndian.PutUint16(t[0:], from)
	binary.BigEndian.PutUint16(t[2:], to)
	binary.BigEndian.PutUint32(t[4:], seq)
	t[12], t[13] = byte(len(t)/4<<4), flags
	copy(t[headerTCP:], []byte{2, 4, 0xff, 0xd7}) // MSS
	return append(t, data...)
}

// extended puts extension headers between the IPv6 header and the rest.
func extended(p []byte, kinds ...byte) []byte {
	body := p[header6:]
	next := p[6]
	for i, kind := range slices.Backward(kinds) {
		h := make([]byte, 8*(1+i))                             // one is longer than the other
		h[0], h[1], h[4], h[5] = next, byte(i), 1, byte(2+8*i) // PadN
		next, body = kind, append(h, body...)
	}
	return packet(netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:])), next, body)
}

func changed(p []byte, at int, to byte) []byte {
	p = append([]byte(nil), p...)
	p[at] = to
	return p
}

func TestParse(t *testing.T) {
	s, ok := parse(syn4)
	want := syn{Flow{netip.MustParseAddrPort("10.1.0.2:40000"), netip.MustParseAddrPort("192.0.2.1:80")}, 0x01020304, 0}
	if !ok || s != want {
		t.Errorf("%v %v", s, ok)
	}
	s, ok = parse(syn6)
	want = syn{Flow{netip.MustParseAddrPort("[fd00:1::2]:40000"), netip.MustParseAddrPort("[2001:db8::1]:80")}, 0x01020304, 4}
	if !ok || s != want {
		t.Errorf("%v %v", s, ok)
	}
	for _, p := range [][]byte{extended(syn6, hopByHop), extended(syn6, hopByHop, destinationOptions), extended(syn6, destinationOptions, routing)} {
		if s, ok := parse(p); !ok || s != want {
			t.Errorf("% x: %v %v", p[header6:], s, ok)
		}
	}
	for name, p := range map[string][]byte{
		"fragment of IPv6": extended(syn6, 44), "header longer than the packet": changed(extended(syn6, hopByHop), header6+1, 200),
		"options and no end": extended(syn6, hopByHop)[:header6+4], "a way on": changed(extended(syn6, routing), header6+3, 1),
		"UDP behind options": changed(extended(syn6, destinationOptions), header6, 17),
		"nothing":            {}, "no IP": changed(syn4, 0, 0x55), "short": syn4[:30], "short IPv6": syn6[:50], "cut header": syn6[:30],
		"UDP": changed(syn4, 9, 17), "ICMPv6": changed(syn6, 6, protoICMP6), "a fragment": changed(syn4, 7, 1), "more fragments": changed(syn4, 6, 0x20),
		"SYN,ACK": changed(syn4, header4+13, flagSYN|flagACK), "RST": changed(syn4, header4+13, flagRST), "ACK": changed(syn6, header6+13, flagACK),
		"small header": changed(syn4, 0, 0x44), "small TCP header": changed(syn4, header4+12, 0x40), "TCP header too large": changed(syn4, header4+12, 0xf0),
		"total below header": changed(changed(syn4, 2, 0), 3, 10),
	} {
		if s, ok := parse(p); ok {
			t.Errorf("%s: %v", name, s)
		}
	}
}

// valid checks an answer's checksums and returns what is behind its IP header.
func valid(t *testing.T, p []byte, proto byte) []byte {
	t.Helper()
	var from, to netip.Addr
	var body []byte
	if p[0]>>4 == 4 {
		if checksum(p[:header4], 0) != 0 || p[9] != proto || int(binary.BigEndian.Uint16(p[2:])) != len(p) {
			t.Fatalf("IPv4 header % x", p[:header4])
		}
		from, to, body = netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:])), p[header4:]
	} else {
		if p[6] != proto || int(binary.BigEndian.Uint16(p[4:])) != len(p)-header6 {
			t.Fatalf("IPv6 header % x", p[:header6])
		}
		from, to, body = netip.AddrFrom16([16]byte(p[8:])), netip.AddrFrom16([16]byte(p[24:])), p[header6:]
	}
	start := pseudo(from, to, proto, len(body))
	if proto == protoICMP {
		start = 0
	}
	if checksum(body, start) != 0 {
		t.Errorf("checksum of % x", body)
	}
	s, _ := parse(syn4)
	if from.Is6() {
		s, _ = parse(syn6)
	}
	if from != s.flow.To.Addr() || to != s.flow.From.Addr() {
		t.Errorf("from %s to %s", from, to)
	}
	return body
}

func TestRefusal(t *testing.T) {
	for _, p := range [][]byte{syn4, syn6} {
		s, _ := parse(p)
		b := valid(t, refusal(s), protoTCP)
		if binary.BigEndian.Uint16(b) != 80 || binary.BigEndian.Uint16(b[2:]) != 40000 || b[13] != flagRST|flagACK ||
			binary.BigEndian.Uint32(b[8:]) != s.seq+1+uint32(s.data) {
			t.Errorf("% x", b)
		}
	}
}

func TestUnreachable(t *testing.T) {
	for _, c := range []struct {
		packet     []byte
		why        reason
		proto      byte
		kind, code byte
	}{
		{syn4, noNetwork, protoICMP, 3, 0},
		{syn4, noHost, protoICMP, 3, 1},
		{syn4, prohibited, protoICMP, 3, 13},
		{syn6, noNetwork, protoICMP6, 1, 0},
		{syn6, noHost, protoICMP6, 1, 3},
		{syn6, prohibited, protoICMP6, 1, 1},
	} {
		s, _ := parse(c.packet)
		b := valid(t, unreachable(s, c.packet, c.why), c.proto)
		if b[0] != c.kind || b[1] != c.code {
			t.Errorf("%v: type %d, code %d", c.why, b[0], b[1])
		}
		if quoted, ok := parse(b[headerICMP:]); !ok || quoted != s {
			t.Errorf("it quotes % x", b[headerICMP:])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(syn4)
	f.Add(syn6)
	f.Add(extended(syn6, hopByHop, destinationOptions, routing))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, ok := parse(p)
		if !ok {
			return
		}
		if !s.flow.From.IsValid() || !s.flow.To.IsValid() || s.data < 0 || s.data > len(p) {
			t.Fatalf("%+v", s)
		}
		// Answers are packets with right sums, whatever they answer.
		for _, a := range [][]byte{refusal(s), unreachable(s, p, noHost)} {
			if a[0]>>4 == 4 && checksum(a[:header4], 0) != 0 {
				t.Fatalf("% x", a)
			}
		}
		if _, ok := parse(refusal(s)); ok {
			t.Fatal("an answer that asks for a connection")
		}
	})
}
