package filter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// asked is struct seccomp_data.
type asked struct {
	call, arch uint32
	args       [6]uint64
}

// machine runs a program with x/net's interpreter, which loads big-endian words.
func machine(t testing.TB, c code) func(asked) uint32 {
	t.Helper()
	var program []bpf.Instruction
	for _, i := range c {
		program = append(program, bpf.RawInstruction{Op: i.Code, Jt: i.Jt, Jf: i.Jf, K: i.K}.Disassemble())
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(a asked) uint32 {
		b := binary.BigEndian.AppendUint32(nil, a.call)
		b = binary.BigEndian.AppendUint32(b, a.arch)
		b = append(b, make([]byte, 8)...) // the instruction pointer
		for _, v := range a.args {        // as little-endian machines have them: the lower word first
			b = binary.BigEndian.AppendUint32(b, uint32(v))
			b = binary.BigEndian.AppendUint32(b, uint32(v>>32))
		}
		n, err := vm.Run(b)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
}

// around are the constants of a program, and what is beside them.
func (c code) around() []uint32 {
	var all []uint32
	for _, i := range c {
		if i.Code != opLoad && i.Code != opReturn && i.Code != opJump {
			all = append(all, i.K-1, i.K, i.K+1)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// compare runs two programs for calls that either of them knows, on each
// architecture, with arguments around those that they look for.
func compare(t testing.TB, name string, a, b code, r *rand.Rand) {
	t.Helper()
	runA, runB := machine(t, a), machine(t, b)
	archs, calls, err := a.edges()
	if err != nil {
		t.Fatal(err)
	}
	archs = append(archs, r.Uint32(), ^uint32(0))
	for range 10 {
		calls = append(calls, uint32(r.IntN(600)), uint32(r.IntN(600))|0x40000000, r.Uint32())
	}
	values := append(a.around(), 0, ^uint32(0))
	word := func() uint64 { return uint64(values[r.IntN(len(values))]) }
	try := func(arch, call uint32) {
		t.Helper()
		ask := asked{call: call, arch: arch}
		for i := range ask.args {
			ask.args[i] = word() | word()<<32*uint64(r.IntN(2))
		}
		if x, y := runA(ask), runB(ask); x != y {
			t.Fatalf("%s: %+v: %#x, the other %#x", name, ask, x, y)
		}
	}
	for _, arch := range archs {
		for _, call := range calls {
			try(arch, call)
			if a.decide(arch, call).looks {
				for range 20 {
					try(arch, call)
				}
			}
		}
	}
}

func mustParse(t testing.TB, program []byte) code {
	t.Helper()
	c, err := parse(program)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.bytes(), program) {
		t.Fatal("it is not written as it was read")
	}
	return c
}

// A rewritten program has the verdicts of libseccomp's, by an interpreter that
// knows nothing of how it was made; and so sameVerdicts says.
func TestRewrite(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, profile := range allProfiles(t) {
		from := mustParse(t, fresh(t, profile))
		to, err := rewrite(from)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		to = mustParse(t, to.bytes())
		compare(t, name, from, to, r)
		if same, err := sameVerdicts(from, to); err != nil || !same {
			t.Errorf("%s: said to have other verdicts (%v)", name, err)
		}
	}
}

// docker's profile is what this is done for.
func TestShrink(t *testing.T) {
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN"}, {"CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE"}} {
		from := fresh(t, dockerProfile(t, caps...))
		to, err := shrink(from)
		if err != nil {
			t.Fatal(err)
		}
		if len(to) > len(from)/3 {
			t.Errorf("%q: %d instructions of %d are left", caps, len(to)/instruction, len(from)/instruction)
		}
	}
}

// Whatever is changed in a program is noticed: another number, other ways, an
// instruction of another kind.
func TestOtherVerdicts(t *testing.T) {
	from := mustParse(t, fresh(t, dockerProfile(t, "CAP_SYS_ADMIN")))
	to, err := rewrite(from)
	if err != nil {
		t.Fatal(err)
	}
	changes := []func(*unix.SockFilter){
		func(i *unix.SockFilter) { i.K++ },
		func(i *unix.SockFilter) { i.K-- },
		func(i *unix.SockFilter) { i.K ^= 1 << 16 },
		func(i *unix.SockFilter) { i.Jt, i.Jf = i.Jf, i.Jt },
		func(i *unix.SockFilter) { i.Jt++ },
		func(i *unix.SockFilter) { i.Jf-- },
		func(i *unix.SockFilter) { i.Code ^= opGreater ^ opAtLeast },
	}
	tried, noticed := 0, 0
	for at := range to {
		for n, change := range changes {
			if (at+n)%4 != 0 {
				continue
			}
			other := slices.Clone(to)
			change(&other[at])
			program := other.bytes()
			if i := to[at]; i.Code == opReturn || i.Code == opJump || i.Code == opLoad || i.Code == opAnd {
				if other[at].K == i.K {
					continue // it has no ways
				}
			}
			tried++
			read, err := parse(program)
			if err != nil {
				noticed++
				continue
			}
			same, err := sameVerdicts(from, read)
			if err == nil && same {
				// Nothing else may have come of it: ways that lead to the same.
				compare(t, fmt.Sprint("change ", n), from, read, rand.New(rand.NewPCG(3, uint64(at))))
				continue
			}
			noticed++
		}
	}
	if tried < len(to) || noticed < tried*9/10 {
		t.Errorf("%d of %d changes of %d instructions are noticed", noticed, tried, len(to))
	}
}

// What is no program of libseccomp's, or decides otherwise than by order, is left alone.
func TestNotShrunk(t *testing.T) {
	ret := unix.SockFilter{Code: opReturn, K: unix.SECCOMP_RET_ALLOW}
	call := unix.SockFilter{Code: opLoad, K: offsetCall}
	for name, c := range map[string]code{
		"nothing":        {},
		"no return":      {call},
		"out of it":      {call, {Code: opEqual, Jt: 1}, ret},
		"far out of it":  {{Code: opJump, K: 1 << 31}, ret},
		"another kind":   {{Code: unix.BPF_LD | unix.BPF_IMM, K: 1}, ret},
		"bits of a call": {call, {Code: opBits, K: 3, Jt: 1}, ret, ret},
		"part of a call": {call, {Code: opAnd, K: 3}, {Code: opEqual, K: 3, Jt: 1}, ret, ret},
		"of nothing":     {{Code: opEqual, K: 3, Jt: 1}, ret, ret},
		"small":          {ret},
	} {
		if to, err := shrink(c.bytes()); err == nil {
			t.Errorf("%s: it becomes %v", name, to)
		}
	}
	if _, err := shrink([]byte{1, 2, 3}); err == nil {
		t.Error("part of an instruction is a program")
	}
}

// FuzzShrink: whatever becomes smaller returns what it returned before.
func FuzzShrink(f *testing.F) {
	for _, p := range allProfiles(f) {
		if program := fresh(f, p); len(program) < 200*instruction {
			f.Add(program, uint64(1))
		}
	}
	f.Fuzz(func(t *testing.T, program []byte, seed uint64) {
		small, err := shrink(program)
		if err != nil {
			return
		}
		from, to := mustParse(t, program), mustParse(t, small)
		for _, c := range []code{from, to} {
			for _, i := range c {
				if i.Code == opLoad && i.K > 60 {
					return // the kernel takes none that loads from beyond
				}
			}
		}
		compare(t, "", from, to, rand.New(rand.NewPCG(seed, 1)))
	})
}
