package lately

import (
	"testing"
	"time"
)

func TestMoment(t *testing.T) {
	var m Moment
	if at := m.Time(); !at.IsZero() {
		t.Errorf("before it ever happens: %s", at)
	}
	before := time.Now()
	m.Now()
	after := time.Now()
	if at := m.Time(); at.Before(before) || at.After(after) {
		t.Errorf("%s is not within %s and %s", at, before, after)
	}
	if at := m.Time(); at == at.Round(0) { //nolint:staticcheck // not Equal: the monotonic reading is what is looked for
		t.Error("who sets the clock sets when it happened")
	}
}
