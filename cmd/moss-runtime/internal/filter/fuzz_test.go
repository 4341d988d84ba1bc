package filter

import (
	"bytes"
	"testing"
)

// FuzzKept: a kept program is what was written, byte for byte, or it is compiled again.
func FuzzKept(f *testing.F) {
	whole := (&Entry{Program: make([]byte, 2*instruction)}).encode()
	f.Add(whole)
	f.Add(whole[:header])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decode(b)
		if err == nil && !bytes.Equal(e.encode(), b) {
			t.Errorf("%x is taken for %x", b, e.encode())
		}
	})
}
