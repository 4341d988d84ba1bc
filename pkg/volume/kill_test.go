package volume_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// A process that dies by SIGKILL at any moment of a copy-up leaves, once the next
// one has begun, a volume that has all of it or nothing, and nothing beside it; and
// the next copy is right.
func TestKillDuringFill(t *testing.T) {
	const env = "_MOSS_FILL_DIR"
	if dir := os.Getenv(env); dir != "" {
		s := open(t, dir)
		_, _ = os.Stdout.WriteString("ready\n") // to the test, which kills
		must(t, s.Fill(t.Context(), "data", moss.Mount{Path: filepath.Join(dir, "root")}, "/srv"))
		select {} // it is killed
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root", "srv")
	must(t, os.MkdirAll(root, 0o755))
	tree(t, root)
	want := census(t, root)
	outcome := map[string]int{}
	for n := range 20 {
		s := open(t, dir)
		v := create(t, s, "data")
		must(t, s.Close())
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKillDuringFill$")
		cmd.Env = append(os.Environ(), env+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		buf := make([]byte, 64)
		k, err := out.Read(buf)
		if err != nil || !strings.Contains(string(buf[:k]), "ready") {
			t.Fatalf("the child says %q, %v", buf[:k], err)
		}
		<-time.After(time.Duration(n*n) * 50 * time.Microsecond) // another point of the copy each time
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed

		s = open(t, dir)
		beside, err := os.ReadDir(filepath.Dir(v.Path))
		must(t, err)
		if len(beside) != 2 {
			t.Errorf("round %d: beside the files there is %v", n, beside)
		}
		have, err := os.ReadDir(v.Path)
		must(t, err)
		switch {
		case len(have) == 0:
			outcome["nothing"]++
			must(t, s.Fill(t.Context(), "data", moss.Mount{Path: filepath.Join(dir, "root")}, "/srv"))
		default:
			outcome["all"]++
		}
		if got := census(t, v.Path); !slices.Equal(got, want) {
			for i, line := range got {
				if i >= len(want) || line != want[i] {
					t.Errorf("%q", line)
				}
			}
			t.Fatalf("round %d (%d there): %d files, want %d, or those differ", n, len(have), len(got), len(want))
		}
		must(t, s.Remove(t.Context(), "data"))
		must(t, s.Close())
	}
	t.Log(outcome)
}
