package units

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestExpect: this process stays where it is, whatever is expected and however often.
func TestExpect(t *testing.T) {
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")); err != nil {
		t.Skipf("no user manager here: %v", err)
	}
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.moves.procs == nil {
		t.Error("cgroup.procs of this process's cgroup is not there to be written to")
	}
	var many sync.WaitGroup
	for range 100 {
		many.Go(m.Expect)
	}
	many.Wait()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	m.Expect() // nobody listens
	after, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || string(after) != string(before) {
		t.Errorf("this process is in %s, was in %s (%v)", after, before, err)
	}
}

// BenchmarkMigration is what a process waits that is put into a cgroup, at once and
// a while after another was expected.
func BenchmarkMigration(b *testing.B) {
	procs, err := ownProcs()
	if err != nil {
		b.Skip("no cgroup that may be written to: ", strings.TrimSpace(err.Error()))
	}
	defer procs.Close()
	for _, ahead := range []time.Duration{0, 6 * time.Millisecond} {
		b.Run("expected-"+ahead.String()+"-ahead", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				<-time.After(100 * time.Millisecond) // for the kernel to forget the last
				var first sync.WaitGroup
				if ahead > 0 {
					first.Go(func() { _, _ = procs.WriteString("0") })
					<-time.After(ahead)
				}
				b.StartTimer()
				if _, err := procs.WriteString("0"); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				first.Wait()
				b.StartTimer()
			}
		})
	}
}
