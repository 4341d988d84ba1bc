package storage

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A process killed while it writes a file leaves one with another name.
func TestUnfinishedFilesOfTheKilledGo(t *testing.T) {
	root := t.TempDir()
	var stay []string
	for _, dir := range []string{"overlay-layers", "overlay-images", "overlay-images/0a", "overlay-containers", "overlay-containers/0b"} {
		must(t, os.MkdirAll(filepath.Join(root, dir), 0o700))
		name := filepath.Join(root, dir, "0c.tar-split.gz")
		must(t, os.WriteFile(name, nil, 0o600))
		must(t, os.WriteFile(filepath.Join(root, dir, ".tmp-0c.tar-split.gz123"), nil, 0o600))
		stay = append(stay, name)
	}
	stamp := filepath.Join(t.TempDir(), "swept")
	must(t, sweepProbes(root, stamp))
	var left []string
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, path)
		}
		return err
	}))
	slices.Sort(stay)
	slices.Sort(left)
	if !slices.Equal(left, stay) {
		t.Errorf("left are %q, want %q", left, stay)
	}

	// The next process to be killed leaves one more, in a directory that was swept before.
	again := filepath.Join(root, "overlay-images", "0a", ".tmp-0c")
	must(t, os.WriteFile(again, nil, 0o600))
	must(t, sweepProbes(root, stamp))
	if _, err := os.Stat(again); err == nil {
		t.Error("what came after a sweep is not found by the next")
	}
	// And one while the clock was wrong, of which the sweep knows only that its own stamp is later than now.
	must(t, os.WriteFile(again, nil, 0o600))
	must(t, os.Chtimes(filepath.Dir(again), time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)))
	must(t, os.Chtimes(stamp, time.Now().Add(time.Hour), time.Now().Add(time.Hour)))
	must(t, sweepProbes(root, stamp))
	if _, err := os.Stat(again); err == nil {
		t.Error("a stamp of the future is believed")
	}
	// What was not touched since is not looked at.
	must(t, os.WriteFile(again, nil, 0o600))
	must(t, os.Chtimes(filepath.Dir(again), time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)))
	must(t, sweepProbes(root, stamp))
	if _, err := os.Stat(again); err != nil {
		t.Errorf("every directory is looked into at every start: %v", err)
	}
}

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
	must(t, sweepProbes(root, filepath.Join(t.TempDir(), "swept")))
	left, err := filepath.Glob(filepath.Join(root, "*", "*"))
	must(t, err)
	if want := []string{stay, filepath.Join(root, "overlay", "tempdirs")}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
	must(t, os.Remove(doomed)) // not busy
}
