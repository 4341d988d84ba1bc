package main

import (
	"os"
	"testing"
)

// TestManual writes moss(1), or says that it is not what the commands say.
func TestManual(t *testing.T) {
	run1(t, nil, "--version") // as main does, it takes -h from the flag for help
	root := (&app{}).root()
	root.Description = "Commands, flags and output are docker's where docker has them. The engine is set up with **moss setup**; docker's own client finds it as the context moss."
	root.Setup()
	want, err := root.ToManWithSection(1)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("moss.1", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != manual {
		t.Error("moss.1 is not what the commands say; write it anew with: go test ./cmd/moss -run TestManual -update")
	}
}
