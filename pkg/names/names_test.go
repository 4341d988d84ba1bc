package names

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	own := t.TempDir()
	for _, program := range []string{Rootless, Gvisor} {
		if _, err := find(program, own); err == nil || !strings.Contains(err.Error(), "cannot find "+program) || !strings.Contains(err.Error(), "make install") {
			t.Errorf("%s nowhere: %v", program, err)
		}
		inPath, beside := filepath.Join(dir, program), filepath.Join(own, program)
		write(t, inPath, 0o700)
		if got, err := find(program, own); got != inPath || err != nil {
			t.Errorf("%s in PATH: %s, %v", program, got, err)
		}
		write(t, beside, 0o700)
		if got, err := find(program, own); got != beside || err != nil {
			t.Errorf("%s beside us and in PATH: %s, %v", program, got, err)
		}
		if err := os.Chmod(beside, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := find(program, own); err == nil || !strings.Contains(err.Error(), "cannot run "+beside) {
			t.Errorf("%s beside us, not executable: %s, %v", program, got, err)
		}
	}
}

func TestFindKnowsItsPlace(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Find(filepath.Base(self)); got != self || err != nil {
		t.Errorf("%s, %v; want %s", got, err, self)
	}
}

func write(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
		t.Fatal(err)
	}
}
