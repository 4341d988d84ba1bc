package filter

import (
	"errors"
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// libseccomp's program for docker's profile has 1,200 instructions: it asks for
// each call by itself. What they cost at a start goes by their number: libcontainer takes
// the program apart and puts it together again, the kernel checks and compiles
// it. Most calls have their neighbours' verdict, so a search among the numbers at
// which the verdict changes takes a quarter of that.

// shrink returns a program with the verdicts of the given one, which
// sameVerdicts has been asked about, or an error.
func shrink(program []byte) ([]byte, error) {
	from, err := parse(program)
	if err != nil {
		return nil, err
	}
	to, err := rewrite(from)
	if err != nil {
		return nil, err
	}
	if len(to) >= len(from) {
		return nil, errors.New("it gets no smaller")
	}
	// What was written must be a program as well as have the same verdicts.
	small := to.bytes()
	if to, err = parse(small); err != nil {
		return nil, err
	}
	same, err := sameVerdicts(from, to)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, errors.New("the smaller program has other verdicts")
	}
	return small, nil
}

// rewrite returns from as a search.
func rewrite(from code) (code, error) {
	archs, calls, err := from.edges()
	if err != nil {
		return nil, err
	}
	w := &writer{from: from, blocks: map[int]int{}, returns: map[uint32]int{}}
	w.program(archs, calls)
	slices.Reverse(w.reversed)
	return w.reversed, nil
}

// writer writes a program from its end to its beginning, as jumps only go
// forward: what an instruction leads to is there before it. Places count from
// the end.
type writer struct {
	from     code
	reversed code
	blocks   map[int]int    // places of instructions of from
	returns  map[uint32]int // places of the last return of each value
}

// put writes an instruction and returns its place.
func (w *writer) put(i unix.SockFilter) int {
	w.reversed = append(w.reversed, i)
	return len(w.reversed) - 1
}

// skip is how many instructions are between the next one and place.
func (w *writer) skip(place int) int { return len(w.reversed) - place - 1 }

// next makes place what follows the next instruction.
func (w *writer) next(place int) {
	if n := w.skip(place); n > 0 {
		w.put(unix.SockFilter{Code: opJump, K: uint32(n)})
	}
}

// branch writes a conditional jump to two places.
func (w *writer) branch(op uint16, k uint32, holds, not int) int {
	// A jump skips 255 at most; the other way's detour may come between.
	const far = math.MaxUint8 - 1
	if w.skip(holds) > far {
		holds = w.put(unix.SockFilter{Code: opJump, K: uint32(w.skip(holds))})
	}
	if w.skip(not) > far {
		not = w.put(unix.SockFilter{Code: opJump, K: uint32(w.skip(not))})
	}
	return w.put(unix.SockFilter{Code: op, K: k, Jt: uint8(w.skip(holds)), Jf: uint8(w.skip(not))})
}

// piece is a run of numbers from first on, up to the next piece.
type piece[T any] struct {
	first uint32
	what  T
}

// program writes a search for the architecture and, in each, one for the call.
func (w *writer) program(archs, calls []uint32) {
	var all []piece[[]piece[outcome]]
	for _, arch := range archs {
		var p []piece[outcome]
		for _, call := range calls {
			if o := w.from.decide(arch, call); len(p) == 0 || p[len(p)-1].what != o {
				p = append(p, piece[outcome]{call, o})
			}
		}
		if len(all) == 0 || !slices.Equal(all[len(all)-1].what, p) {
			all = append(all, piece[[]piece[outcome]]{arch, p})
		}
	}
	w.next(search(w, all, w.calls))
	w.put(unix.SockFilter{Code: opLoad, K: offsetArch})
}

// calls writes what decides on the calls of an architecture.
func (w *writer) calls(pieces []piece[outcome]) int {
	place := search(w, pieces, w.outcome)
	if len(pieces) == 1 {
		return place
	}
	w.next(place)
	return w.put(unix.SockFilter{Code: opLoad, K: offsetCall})
}

// search writes a search for the piece that has the accumulator, and returns its place.
func search[T any](w *writer, pieces []piece[T], write func(T) int) int {
	if len(pieces) == 1 {
		return write(pieces[0].what)
	}
	mid := len(pieces) / 2
	above := search(w, pieces[mid:], write)
	below := search(w, pieces[:mid], write)
	return w.branch(opAtLeast, pieces[mid].first, above, below)
}

// outcome is the place of what does o, written where there is none near.
func (w *writer) outcome(o outcome) int {
	if o.looks {
		return w.block(int(o.value))
	}
	if place, ok := w.returns[o.value]; ok && w.skip(place) < math.MaxUint8/2 {
		return place
	}
	w.returns[o.value] = w.put(unix.SockFilter{Code: opReturn, K: o.value})
	return w.returns[o.value]
}

// block copies what looks at arguments, from an instruction on.
func (w *writer) block(pc int) int {
	if place, ok := w.blocks[pc]; ok {
		return place
	}
	i := w.from[pc]
	var place int
	switch i.Code {
	case opReturn:
		return w.outcome(outcome{value: i.K})
	case opJump:
		return w.block(pc + 1 + int(i.K))
	case opLoad, opAnd:
		w.next(w.block(pc + 1))
		place = w.put(i)
	default:
		holds := w.block(pc + 1 + int(i.Jt))
		place = w.branch(i.Code, i.K, holds, w.block(pc+1+int(i.Jf)))
	}
	w.blocks[pc] = place
	return place
}
