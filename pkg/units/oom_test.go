package units

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// A change of the file is seen as it comes, and as the end of the unit is told; one that went unread counts with SIGKILL.
func TestOOMs(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "slice")
	set := func(unit, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, unit), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, unit, "memory.events"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := watchOOMs()
	o.where = func(_ int, unit string) string { return filepath.Join(dir, unit, "memory.events") }
	for _, unit := range []string{"before", "during", "never", "other", "late1", "late2"} {
		set(unit, "max 3\noom 0\noom_kill 0\n")
	}
	set(".", "oom_kill 1\n")
	set("before", "oom 1\noom_kill 1\noom_group_kill 0\n")
	set("unread", "")
	for pid, unit := range []string{"", "before", "during", "never", "unread", "none", "other", "late1", "late2"} {
		o.follow(unit, unit, pid)
	}
	set("during", "oom_kill 2\n")
	set("never", "max 4\noom_kill 0\n")
	if more := o.read(); !slices.Equal(more, []string{"during"}) {
		t.Errorf("there are more in %v", more)
	}
	set("unread", "oom_kill 1\n")
	if err := os.RemoveAll(filepath.Join(dir, "unread")); err != nil {
		t.Fatal(err)
	}
	o.read()
	for _, c := range []struct {
		unit    string
		pid     int
		sigkill bool
		want    uint64
	}{
		{"before", 1, false, 1},
		{"during", 2, true, 2},
		{"during", 9, true, 0}, // another run's
		{"never", 3, true, 0},
		{"unread", 4, false, 0},
		{"unread", 4, true, 1},
		{"unread", 4, true, 1},
		{"none", 5, true, 0},
		{"unknown", 6, true, 0},
	} {
		if got := o.ended(c.unit, c.pid, c.sigkill); got != c.want {
			t.Errorf("%s, process %d, by SIGKILL %v: %d", c.unit, c.pid, c.sigkill, got)
		}
	}
	if o.kills("during", 2) != 2 || o.kills("during", 9) != 0 || o.kills("unknown", 6) != 0 {
		t.Error("what is told of one that runs is not what is known")
	}

	// The slice's tells, once, of what no unit's told.
	set(".", "oom_kill 4\n")
	for _, c := range []struct {
		unit string
		pid  int
		want uint64
	}{{"none", 5, 0}, {"during", 2, 3}, {"late1", 7, 0}} { // one of several: the second kill of a unit that had told of some
		if got := o.ended(c.unit, c.pid, true); got != c.want {
			t.Errorf("%s: %d", c.unit, got)
		}
	}

	var mu sync.Mutex
	seen := make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.wait(func() {
			mu.Lock()
			defer mu.Unlock()
			if slices.Contains(o.read(), "other") {
				seen <- struct{}{}
			}
		})
	}()
	set("other", "oom_kill 1\n")
	<-seen
	mu.Lock()
	o.forget("other")
	o.end()
	if len(o.of) != 7 {
		t.Errorf("%d are watched", len(o.of))
	}
	mu.Unlock()
	if err := o.close(); err != nil {
		t.Error(err)
	}
	<-ended
	o.follow("last", "last", 9)
	if o.ended("last", 9, true) != 0 {
		t.Error("a watch that is closed sees something")
	}
}
