package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// A store is as it was left only where nothing has come in between that opening it would look for.
func TestAsLeft(t *testing.T) {
	dir := t.TempDir()
	o := Options{GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), Driver: driverVFS, Build: "one"}
	if AsLeft(o) {
		t.Error("a store that never was")
	}
	used := func(left bool, use func(s *Storage)) {
		t.Helper()
		s, err := Open(t.Context(), o)
		must(t, err)
		if AsLeft(o) {
			t.Error("it is open: whoever is killed now has left nothing in order")
		}
		if use != nil {
			use(s)
		}
		must(t, s.Close())
		if left {
			s.Left()
		}
	}
	used(true, func(s *Storage) { image(t, s, hello) })
	if !AsLeft(o) {
		t.Fatal("nothing has come in between")
	}
	for what, other := range map[string]func(o *Options){
		"another build":    func(o *Options) { o.Build = "two" },
		"another driver":   func(o *Options) { o.Driver = driverOverlay },
		"other options":    func(o *Options) { o.DriverOptions = []string{"overlay.mountopt=nodev"} },
		"another data dir": func(o *Options) { o.GraphRoot = dir },
	} {
		changed := o
		other(&changed)
		if AsLeft(changed) {
			t.Error(what)
		}
	}
	for _, name := range (&lists{root: o.GraphRoot, run: o.RunRoot, driver: driverVFS}).all() {
		was, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		must(t, os.WriteFile(name, append(was, ' '), 0o600))
		if AsLeft(o) {
			t.Error(filepath.Base(name) + " has changed")
		}
		used(true, nil)
		if !AsLeft(o) {
			t.Error(filepath.Base(name) + ": it was looked at, and closed")
		}
	}
	used(false, nil)
	if AsLeft(o) {
		t.Error("nobody has said that all was well with it")
	}
}

func TestMountedIsNotAsLeft(t *testing.T) {
	dir := t.TempDir()
	o := Options{GraphRoot: filepath.Join(dir, "graph"), RunRoot: filepath.Join(dir, "run"), Driver: driverOverlay}
	id := moss.ContainerID(moss.NewHexID())
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Skip(err)
	}
	must(t, s.Create(t.Context(), id, image(t, s, hello)))
	for _, up := range []bool{true, false} {
		if up {
			_, err = s.Mount(t.Context(), id)
		} else {
			err = s.Unmount(t.Context(), id)
		}
		must(t, err)
		must(t, s.Close())
		s.Left()
		if AsLeft(o) == up {
			t.Errorf("with the container's root file system mounted %v, it is as it was left %v", up, !up)
		}
		s, err = Open(t.Context(), o)
		must(t, err)
	}
	must(t, s.Close())
}
