package records

import (
	"path/filepath"
	"testing"
)

func TestCheck(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "moss.db"), filepath.Join(t.TempDir(), "run.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); err == nil {
		t.Error("closed databases are fine")
	}
}
