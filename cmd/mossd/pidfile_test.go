package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	for _, before := range []string{"", "123456\n"} {
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		remove, err := writePID(path)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != strconv.Itoa(os.Getpid())+"\n" {
			t.Errorf("after %q it has %q, %v", before, b, err)
		}
		if err := remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("it is left")
		}
	}
	if err := os.WriteFile(path, []byte("a letter"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := writePID(path); err == nil {
		t.Error("another file is replaced")
	}
	if _, err := writePID(filepath.Join(path, "x")); err == nil {
		t.Error("no error below a file")
	}
}
