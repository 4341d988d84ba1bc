package storage

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/children"
	"github.com/moss-containers/moss/pkg/moss"
)

// What serves a mount is moved once it is there, is waited for when it ends, and
// a mount that it left behind is made anew.
func TestWhatServesAMount(t *testing.T) {
	if _, err := (machine{}).fuse(t.Context(), t.TempDir(), ""); err != nil {
		t.Skip("fuse-overlayfs does not work here:", err)
	}
	must(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer func() { must(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)) }()
	dir, group := t.TempDir(), t.TempDir()
	procs := filepath.Join(group, "cgroup.procs")
	begin := func() (*Storage, error) {
		s, err := Open(t.Context(), Options{GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), Driver: fuseOverlayfs, MountGroup: group})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
	s, err := begin()
	must(t, err)
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.Create(t.Context(), id, image(t, s, hello)))

	// Nowhere to move it: there is no mount, and no process.
	if _, err := s.Mount(t.Context(), id); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the cgroup: %v", err)
	}
	wantNoMounts(t, dir)
	wantNoChildren(t)

	moved := func() int {
		t.Helper()
		text, err := os.ReadFile(procs)
		must(t, err)
		pid, err := strconv.Atoi(string(text))
		must(t, err)
		must(t, os.WriteFile(procs, nil, 0o600))
		return pid
	}
	must(t, os.WriteFile(procs, nil, 0o600))
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	pid := moved()
	if got, err := serving(m.Path); got != pid || err != nil {
		t.Errorf("moved %d, and %d serves (%v)", pid, got, err)
	}
	_, err = s.Mount(t.Context(), id) // the same one
	must(t, err)
	if text, err := os.ReadFile(procs); len(text) > 0 || err != nil {
		t.Errorf("moved again: %q, %v", text, err)
	}
	must(t, os.WriteFile(filepath.Join(m.Path, "mine"), []byte("mine"), 0o600))
	must(t, s.Alive(os.Getpid()))

	// It dies, and the daemon comes anew, or not.
	for _, anew := range []bool{false, true} {
		must(t, unix.Kill(pid, unix.SIGKILL))
		for deadline := time.Now().Add(time.Minute); !dead(m.Path); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("its end is not seen")
			}
		}
		if anew {
			must(t, s.Close())
			reap(pid) // it would not be this daemon's child
			s, err = begin()
			must(t, err)
		} else if err := s.Unmount(t.Context(), id); err != nil {
			t.Error(err)
		}
		m, err = s.Mount(t.Context(), id)
		must(t, err)
		if b, err := os.ReadFile(filepath.Join(m.Path, "mine")); string(b) != "mine" {
			t.Errorf("after its end (anew: %v): %q, %v", anew, b, err)
		}
		pid = moved()
	}
	must(t, s.Remove(t.Context(), id))
	wantNoMounts(t, dir)
	wantNoChildren(t)
}

func wantNoChildren(t *testing.T) {
	t.Helper()
	var left []int
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		if left, err = children.List(); err != nil {
			t.Fatal(err)
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("children are left: %v", left)
}
