package storage

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A process killed while it tries the kernel out leaves a mount and a directory.
func TestProbesOfTheKilledGo(t *testing.T) {
	root := t.TempDir()
	stay := filepath.Join(root, "overlay", "l")
	mounted := filepath.Join(root, "overlay", "compat123", "lower-mapped")
	for _, dir := range []string{stay, mounted, filepath.Join(root, ".probe-9", "merged")} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	must(t, unix.Mount("none", mounted, "tmpfs", 0, ""))
	must(t, sweepProbes(root))
	left, err := filepath.Glob(filepath.Join(root, "*", "*"))
	must(t, err)
	if len(left) != 1 || left[0] != stay {
		t.Errorf("left are %q", left)
	}
}
