package seccomp

/*
#cgo pkg-config: libseccomp
#include <seccomp.h>
*/
import "C"

import (
	"crypto/sha256"
	"encoding/binary"

	upstream "moss.invalid/libseccomp-golang"
)

// Key names a filter by all its program depends on: equal keys, equal programs.
type Key [sha256.Size]byte

// op is what was done to a filter. The numbers are part of keys: with another
// meaning of one, generation changes.
type op byte

const (
	opDefault op = iota + 1
	opArch
	opNoNewPrivs
	opLog
	opSSB
	opWaitKill
	opOptimize
	opRule
)

// generation begins every key.
const generation = "moss seccomp program 1\n"

// history is all that was done to a filter, in order, in an encoding that is
// the same for no two histories: records of an op and numbers, of a length
// that what has been read of one tells.
type history struct{ bytes []byte }

func (h *history) note(o op, values ...uint64) {
	h.bytes = append(h.bytes, byte(o))
	for _, v := range values {
		h.bytes = binary.LittleEndian.AppendUint64(h.bytes, v)
	}
}

func (h *history) noteRule(call ScmpSyscall, action ScmpAction, conditions []ScmpCondition) {
	h.note(opRule, uint64(call), uint64(action), uint64(len(conditions)))
	for _, c := range conditions {
		for _, v := range [...]uint64{uint64(c.Argument), uint64(c.Op), c.Operand1, c.Operand2} {
			h.bytes = binary.LittleEndian.AppendUint64(h.bytes, v)
		}
	}
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Key returns the filter's key: what was done to it, and what did it, down to
// the API level, which the kernel has a say in.
func (f *ScmpFilter) Key() (Key, error) {
	if f.stands != nil {
		return *f.stands, nil
	}
	native, err := upstream.GetNativeArch()
	if err != nil {
		return Key{}, err
	}
	// Where the level cannot be told it is 0, as libcontainer sees it.
	level, _ := upstream.GetAPI()
	run := C.seccomp_version()
	text := []byte(generation)
	for _, v := range [...]uint64{
		C.SCMP_VER_MAJOR, C.SCMP_VER_MINOR, C.SCMP_VER_MICRO,
		uint64(run.major), uint64(run.minor), uint64(run.micro),
		uint64(level), uint64(native),
	} {
		text = binary.LittleEndian.AppendUint64(text, v)
	}
	return sha256.Sum256(append(text, f.log.bytes...)), nil
}
