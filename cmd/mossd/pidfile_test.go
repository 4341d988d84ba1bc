package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

// The pid file of another mossd that runs stays its own.
func TestPIDFileOfAnother(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, other := filepath.Join(dir, "pid"), filepath.Join(dir, "mossd")
	if err := os.WriteFile(other, program, 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), other, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Append(nil, cmd.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := writePID(path); err == nil || !strings.Contains(err.Error(), "another mossd") {
		t.Errorf("beside a mossd that runs: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	remove, err := writePID(path)
	if err != nil {
		t.Fatalf("when that has ended: %v", err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
}
