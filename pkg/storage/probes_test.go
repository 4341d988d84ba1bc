package storage

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// A process killed while it tries the kernel out leaves a mount and a directory.
func TestProbesOfTheKilledGo(t *testing.T) {
	root := t.TempDir()
	stay := filepath.Join(root, "overlay", "l")
	mounted := filepath.Join(root, "overlay", "compat123", "lower-mapped")
	doomed := filepath.Join(root, "overlay", "tempdirs", "temp-dir-1", "0-x", "merged") // killed in a removal
	for _, dir := range []string{stay, mounted, doomed, filepath.Join(root, ".probe-9", "merged")} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	must(t, unix.Mount("none", mounted, "tmpfs", 0, ""))
	must(t, unix.Mount("none", doomed, "tmpfs", 0, ""))
	must(t, sweepProbes(root))
	left, err := filepath.Glob(filepath.Join(root, "*", "*"))
	must(t, err)
	if want := []string{stay, filepath.Join(root, "overlay", "tempdirs")}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
	must(t, os.Remove(doomed)) // not busy
}
