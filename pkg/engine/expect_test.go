package engine_test

import (
	"sync/atomic"
	"testing"
)

// expected counts the starts that it was told of.
type expected struct{ n atomic.Int32 }

func (e *expected) Expect() { e.n.Add(1) }

// A start is told of when the container is made, and when it is started.
func TestExpectedStarts(t *testing.T) {
	r := newRig(t, false)
	r.boot(true)
	id := r.create()
	if n := r.expected.n.Load(); n != 1 {
		t.Errorf("told of %d starts by a create, want 1", n)
	}
	r.start(id)
	if n := r.expected.n.Load(); n != 2 {
		t.Errorf("told of %d starts by a create and a start, want 2", n)
	}
}
