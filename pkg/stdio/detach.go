package stdio

import (
	"bytes"
	"slices"
)

// detector looks for the detach keys in what a client types.
type detector struct {
	keys []byte
	held int // how many of keys were typed and not passed on
}

// pass returns what of p goes to the process, and whether the keys are
// complete. Keys that were held back and turn out not to be the sequence are
// passed on before what follows them.
func (d *detector) pass(p []byte) (out []byte, detached bool) {
	if len(d.keys) == 0 || d.held == 0 && bytes.IndexByte(p, d.keys[0]) < 0 {
		return p, false
	}
	out = make([]byte, 0, d.held+len(p))
	for _, c := range p {
		if c == d.keys[d.held] {
			if d.held++; d.held == len(d.keys) {
				return out, true
			}
			continue
		}
		// Keep the longest end of what was typed that can still begin the sequence.
		typed := append(slices.Clone(d.keys[:d.held]), c)
		keep := min(len(typed), len(d.keys)-1)
		for !bytes.HasSuffix(typed, d.keys[:keep]) {
			keep--
		}
		out = append(out, typed[:len(typed)-keep]...)
		d.held = keep
	}
	return out, false
}

// rest returns what was held back.
func (d *detector) rest() []byte { return d.keys[:d.held] }
