package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	libseccomp "github.com/seccomp/libseccomp-golang"
)

// Entry is a program and the key of the filter it was compiled from.
type Entry struct {
	Key     libseccomp.Key
	Program []byte
}

const (
	// magic begins an entry. A change of the format changes it.
	magic = "moss seccomp 1\r\n"
	// instruction is the size of struct sock_filter, maxProgram that of
	// BPF_MAXINSNS of them: what the kernel takes.
	instruction = 8
	maxProgram  = 4096 * instruction
	header      = len(magic) + 4 + 2*sha256.Size
	maxEntry    = header + maxProgram
)

// encode returns magic, the program's length, key, the program's SHA-256, and
// the program.
func (e *Entry) encode() []byte {
	sum := sha256.Sum256(e.Program)
	b := make([]byte, 0, header+len(e.Program))
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Program)))
	b = append(b, e.Key[:]...)
	b = append(b, sum[:]...)
	return append(b, e.Program...)
}

// decode reads what encode has written, and nothing that is damaged.
func decode(b []byte) (*Entry, error) {
	if len(b) < header || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, errors.New("no seccomp program")
	}
	e := &Entry{Program: b[header:]}
	fields := b[len(magic):header]
	n := int64(binary.LittleEndian.Uint32(fields))
	copy(e.Key[:], fields[4:])
	switch {
	case n != int64(len(e.Program)):
		return nil, fmt.Errorf("the seccomp program has %d bytes, not %d", len(e.Program), n)
	case n == 0 || n > maxProgram || n%instruction != 0:
		return nil, fmt.Errorf("%d bytes are no seccomp program", n)
	case sha256.Sum256(e.Program) != [sha256.Size]byte(fields[4+sha256.Size:]):
		return nil, errors.New("the seccomp program is damaged")
	}
	return e, nil
}
