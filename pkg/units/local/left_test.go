package local

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// What was noted and still runs is killed; another process of the same number is not.
func TestLeft(t *testing.T) {
	dir := t.TempDir()
	begin := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	old, other, gone := begin(), begin(), begin()
	for _, cmd := range []*exec.Cmd{old, other, gone} {
		if err := (left{dir}).note(cmd.Process.Pid, mountsOf(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	_ = gone.Process.Kill()
	_ = gone.Wait() // killed
	if err := os.WriteFile(left{dir}.of(other.Process.Pid), []byte("1 "), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/readme", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The server was killed while it wrote another note of the first.
	if err := os.WriteFile(left{dir}.of(old.Process.Pid)+unfinished, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (left{dir}).sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := old.Wait(); err == nil || old.ProcessState.String() != "signal: killed" {
		t.Errorf("what was left: %v", old.ProcessState)
	}
	if state, err := statOf(other.Process.Pid); err != nil || state[0] == "Z" {
		t.Errorf("another process was killed: %v %v", state, err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("notes of %d are left: %v", os.Getpid(), names)
	}
	if _, err := strconv.Atoi(must(begunAt(os.Getpid()))); err != nil {
		t.Error(err)
	}
}

func must(v string, err error) string {
	if err != nil {
		return err.Error()
	}
	return v
}

// A note is there whole or not at all, whoever looks while it is written.
func TestNoteIsWholeOrNotThere(t *testing.T) {
	l := left{t.TempDir()}
	written := make(chan error, 1)
	go func() {
		for range 2000 {
			if err := l.note(os.Getpid(), "mnt:[1]"); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	want := must(begunAt(os.Getpid())) + " mnt:[1]"
	for {
		if text, err := os.ReadFile(l.of(os.Getpid())); err == nil && string(text) != want {
			t.Fatalf("a note is %q, want %q", text, want)
		}
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			return
		default:
		}
	}
}
