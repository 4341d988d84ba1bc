package stdio

import (
	"path/filepath"
	"testing"
)

// When output came last is told on the clock that nobody sets.
func TestMoved(t *testing.T) {
	h, err := New(Config{Dir: t.TempDir(), Console: filepath.Join(t.TempDir(), "c")})
	if err != nil {
		t.Fatal(err)
	}
	if at := h.Moved(); !at.IsZero() {
		t.Error("something was printed at", at)
	}
	h.moved.Now()
	if at := h.Moved(); at.IsZero() || at == at.Round(0) { //nolint:staticcheck // not Equal: the monotonic reading is what is looked for
		t.Errorf("%s is on the clock on the wall", at)
	}
}
