package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// code is a seccomp program: classic BPF as seccomp(2) and libseccomp have it.
type code []unix.SockFilter

// Where struct seccomp_data has what nearly all of a program asks for.
const (
	offsetCall = 0
	offsetArch = 4
)

// The instructions there are in libseccomp's programs.
const (
	opLoad    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd     = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opJump    = unix.BPF_JMP | unix.BPF_JA
	opEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opGreater = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opBits    = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	opReturn  = unix.BPF_RET | unix.BPF_K
)

// parse reads a program, which must be one the kernel would take: each jump goes
// forward to an instruction, and the last one returns.
func parse(program []byte) (code, error) {
	if len(program) == 0 || len(program)%instruction != 0 {
		return nil, fmt.Errorf("%d bytes are no program", len(program))
	}
	var c code
	for b := range slices.Chunk(program, instruction) {
		c = append(c, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:]),
		})
	}
	for pc, i := range c {
		var furthest uint64
		switch i.Code {
		case opReturn:
			continue
		case opJump:
			furthest = uint64(i.K)
		case opEqual, opGreater, opAtLeast, opBits:
			furthest = uint64(max(i.Jt, i.Jf))
		case opLoad, opAnd:
		default:
			return nil, fmt.Errorf("instruction %d is none of libseccomp's: %#x", pc, i.Code)
		}
		if uint64(pc)+1+furthest >= uint64(len(c)) {
			return nil, fmt.Errorf("instruction %d leads out of the program", pc)
		}
	}
	return c, nil
}

func (c code) bytes() []byte {
	b := make([]byte, 0, len(c)*instruction)
	for _, i := range c {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// branch is where the conditional jump at pc goes with that accumulator.
func (c code) branch(pc int, acc uint32) int {
	i := c[pc]
	var holds bool
	switch i.Code {
	case opEqual:
		holds = acc == i.K
	case opGreater:
		holds = acc > i.K
	case opAtLeast:
		holds = acc >= i.K
	}
	if holds {
		return pc + 1 + int(i.Jt)
	}
	return pc + 1 + int(i.Jf)
}

// outcome is what the architecture and the call alone decide: what is returned,
// or where the program begins to look at the arguments.
type outcome struct {
	looks bool
	value uint32 // returned, or the instruction that looks
}

// decide runs the program as far as arch and call lead.
func (c code) decide(arch, call uint32) outcome {
	var acc uint32
	for pc := 0; ; {
		switch i := c[pc]; {
		case i.Code == opReturn:
			return outcome{value: i.K}
		case i.Code == opJump:
			pc += 1 + int(i.K)
		case i.Code == opLoad && i.K == offsetArch:
			acc, pc = arch, pc+1
		case i.Code == opLoad && i.K == offsetCall:
			acc, pc = call, pc+1
		case i.Code == opLoad:
			return outcome{looks: true, value: uint32(pc)}
		default:
			pc = c.branch(pc, acc)
		}
	}
}

// edges are the numbers of architectures and of calls at which the program's
// decision may change, each with zero, in order.
func (c code) edges() (archs, calls []uint32, err error) {
	// What the accumulator has where an instruction is reached, as bits: nothing
	// yet, the architecture, the call.
	const nothing, arch, call = 1, 2, 4
	has := make([]byte, len(c))
	has[0] = nothing
	archs, calls = []uint32{0}, []uint32{0}
	for pc, i := range c { // forward jumps only: all ways to pc are known when it is looked at
		if has[pc] == 0 {
			continue
		}
		switch {
		case i.Code == opReturn:
		case i.Code == opJump:
			has[pc+1+int(i.K)] |= has[pc]
		case i.Code == opLoad && i.K == offsetArch:
			has[pc+1] |= arch
		case i.Code == opLoad && i.K == offsetCall:
			has[pc+1] |= call
		case i.Code == opLoad: // decide goes no further
		case i.Code == opAnd || i.Code == opBits || has[pc]&nothing != 0:
			return nil, nil, errors.New("it decides on calls by more than their order")
		default:
			at := []uint32{i.K}
			if i.K != ^uint32(0) {
				at = append(at, i.K+1)
			}
			if has[pc]&arch != 0 {
				archs = append(archs, at...)
			}
			if has[pc]&call != 0 {
				calls = append(calls, at...)
			}
			has[pc+1+int(i.Jt)] |= has[pc]
			has[pc+1+int(i.Jf)] |= has[pc]
		}
	}
	slices.Sort(archs)
	slices.Sort(calls)
	return slices.Compact(archs), slices.Compact(calls), nil
}

// sameVerdicts says whether two programs return the same for everything: they
// decide alike on each side of every edge of either, and where they look at
// arguments they do so with the same instructions.
func sameVerdicts(a, b code) (bool, error) {
	archsA, callsA, err := a.edges()
	if err != nil {
		return false, err
	}
	archsB, callsB, err := b.edges()
	if err != nil {
		return false, err
	}
	alike := map[[2]int]bool{}
	calls := slices.Concat(callsA, callsB)
	for _, arch := range slices.Concat(archsA, archsB) {
		for _, call := range calls {
			x, y := a.decide(arch, call), b.decide(arch, call)
			if x.looks != y.looks || !x.looks && x.value != y.value {
				return false, nil
			}
			if x.looks && !sameFrom(a, b, int(x.value), int(y.value), alike) {
				return false, nil
			}
		}
	}
	return true, nil
}

// sameFrom says whether a does from instruction i on what b does from j on.
func sameFrom(a, b code, i, j int, alike map[[2]int]bool) bool {
	for a[i].Code == opJump {
		i += 1 + int(a[i].K)
	}
	for b[j].Code == opJump {
		j += 1 + int(b[j].K)
	}
	if alike[[2]int{i, j}] {
		return true
	}
	x, y := a[i], b[j]
	if x.Code != y.Code || x.K != y.K {
		return false
	}
	switch x.Code {
	case opReturn:
	case opLoad, opAnd:
		if !sameFrom(a, b, i+1, j+1, alike) {
			return false
		}
	default:
		if !sameFrom(a, b, i+1+int(x.Jt), j+1+int(y.Jt), alike) || !sameFrom(a, b, i+1+int(x.Jf), j+1+int(y.Jf), alike) {
			return false
		}
	}
	alike[[2]int{i, j}] = true
	return true
}
