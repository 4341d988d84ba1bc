package logs

import (
	"encoding/binary"
	"errors"
	"time"
)

// What fluentd's forward protocol needs of MessagePack
// (https://github.com/msgpack/msgpack/blob/master/spec.md).

func packString[S string | []byte](b []byte, s S) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func packMapHead(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x80|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
}

func packSeconds(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xcf), uint64(t.Unix()))
}

// packEventTime packs a time with nanoseconds, fluentd's extension type 0.
func packEventTime(b []byte, t time.Time) []byte {
	b = binary.BigEndian.AppendUint32(append(b, 0xd7, 0x00), uint32(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

var errAck = errors.New("the log server's acknowledgement cannot be read")

// unpackAck reads {"ack": chunk}. It wants more bytes where done is false.
func unpackAck(b []byte) (chunk string, done bool, err error) {
	const head = "\x81\xa3ack"
	if n := min(len(b), len(head)); string(b[:n]) != head[:n] {
		return "", true, errAck
	}
	if len(b) <= len(head) {
		return "", false, nil
	}
	b = b[len(head):]
	size := 0
	switch c := b[0]; {
	case c&0xe0 == 0xa0:
		size, b = int(c&0x1f), b[1:]
	case c == 0xd9:
		if len(b) < 2 {
			return "", false, nil
		}
		size, b = int(b[1]), b[2:]
	default:
		return "", true, errAck
	}
	if len(b) < size {
		return "", false, nil
	}
	return string(b[:size]), true, nil
}
