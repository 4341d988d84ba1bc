package storage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestVolatileFiles(t *testing.T) {
	porttest.RootfsFiles(t, func(t *testing.T) porttest.RootfsFixture {
		s := open(t, t.TempDir(), driverOverlay)
		return porttest.RootfsFixture{Rootfs: volatile{s}, Image: image(t, s, hello)}
	})
}

// entries names what is in a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func wantNoVolatile(t *testing.T, s *Storage) {
	t.Helper()
	for _, dir := range []string{s.volatile.run, s.volatile.disk} {
		if left := entries(t, dir); len(left) > 0 {
			t.Errorf("%s has %v", dir, left)
		}
	}
}

// The store's lists are not written for a layer that does not outlive the boot.
func TestVolatileIsNotInTheStore(t *testing.T) {
	s := open(t, t.TempDir(), driverOverlay)
	img := image(t, s, hello)
	before := map[string]os.FileInfo{}
	for _, name := range append(s.lists.all(), filepath.Join(s.lists.run, "overlay-layers", "mountpoints.json")) {
		if st, err := os.Stat(name); err == nil {
			before[name] = st
		}
	}
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.CreateVolatile(t.Context(), id, img))
	_, err := s.Mount(t.Context(), id)
	must(t, err)
	if !s.Holds(img) || s.Holds(moss.ImageID("sha256:"+moss.NewHexID())) {
		t.Error("Holds is wrong about its image")
	}
	must(t, s.Unmount(t.Context(), id))
	must(t, s.Remove(t.Context(), id))
	for name, was := range before {
		if now, err := os.Stat(name); err != nil || !os.SameFile(was, now) {
			t.Errorf("%s was written (%v)", name, err)
		}
	}
	if s.Holds(img) {
		t.Error("a removed layer holds its image")
	}
	wantNoVolatile(t, s)
}

// A daemon that is killed leaves a layer whole or not at all to the next one, wherever it was.
func TestVolatileKilled(t *testing.T) {
	for i, left := range [][]string{
		{"run/"}, {"run/", "run/merged/"}, {"disk/", "disk/diff/"}, {"run/", "disk/", "disk/work/", "disk/diff/"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, driverOverlay)
			must(t, s.Close())
			id := moss.NewHexID()
			for _, name := range left {
				root, rest, _ := strings.Cut(name, "/")
				must(t, os.Mkdir(filepath.Join(map[string]string{"run": s.volatile.run, "disk": s.volatile.disk}[root], id, rest), 0o700))
			}
			s = open(t, dir, driverOverlay)
			if ids, err := s.List(t.Context()); err != nil || len(ids) > 0 {
				t.Errorf("List is %v, %v", ids, err)
			}
			wantNoVolatile(t, s)
		})
	}
	// With its link it is one, whatever else is missing: the engine removes it.
	for _, gone := range []string{"diff", "work", ""} {
		t.Run("without-"+gone, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, driverOverlay)
			id := moss.ContainerID(moss.NewHexID())
			must(t, s.CreateVolatile(t.Context(), id, image(t, s, hello)))
			must(t, s.Close())
			must(t, os.RemoveAll(s.volatile.dir(id, gone)))
			s = open(t, dir, driverOverlay)
			if ids, err := s.List(t.Context()); err != nil || len(ids) != 1 {
				t.Errorf("List is %v, %v", ids, err)
			}
			must(t, s.Remove(t.Context(), id))
			wantNoVolatile(t, s)
		})
	}
}

func TestVolatileEndsWithTheBoot(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, driverOverlay)
	id := moss.ContainerID(moss.NewHexID())
	must(t, s.CreateVolatile(t.Context(), id, image(t, s, hello)))
	m, err := s.Mount(t.Context(), id)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(m.Path, "new"), nil, 0o600))
	must(t, s.Unmount(t.Context(), id))
	must(t, s.Close())
	must(t, os.RemoveAll(filepath.Join(dir, "run")))
	s = open(t, dir, driverOverlay)
	if ids, err := s.List(t.Context()); err != nil || len(ids) > 0 {
		t.Errorf("List is %v, %v", ids, err)
	}
	wantNoVolatile(t, s)
	must(t, s.scrap.wait(t.Context()))
	if left := entries(t, s.scrap.dir); len(left) > 0 {
		t.Errorf("the scrap has %v", left)
	}
}

// What the plain way cannot do is left to the store, and works.
func TestVolatileByTheStore(t *testing.T) {
	s := open(t, t.TempDir(), driverOverlay)
	parent, data := "", 0
	for i := 0; data < 2*os.Getpagesize(); i++ {
		l, _, err := s.Store().PutLayer("", parent, nil, "", false, nil, strings.NewReader(string(porttest.Tar(t, porttest.File{Name: fmt.Sprint("f", i), Text: "x"}))))
		must(t, err)
		parent, data = l.ID, data+len(s.store.GraphRoot())+len("/overlay/l/")+26
	}
	deep := moss.NewHexID()
	_, err := s.Store().CreateImage(deep, nil, parent, "", nil)
	must(t, err)
	bare := moss.NewHexID()
	_, err = s.Store().CreateImage(bare, nil, "", "", nil)
	must(t, err)
	for name, img := range map[string]string{"many layers": deep, "no layer": bare} {
		id := moss.ContainerID(moss.NewHexID())
		must(t, s.CreateVolatile(t.Context(), id, moss.ImageID("sha256:"+img)))
		if _, ok := s.volatile.get(id); ok {
			t.Errorf("%s: not left to the store", name)
		}
		m, err := s.Mount(t.Context(), id)
		must(t, err)
		if _, err := os.Stat(filepath.Join(m.Path, "f0")); img == deep && err != nil {
			t.Error(err)
		}
		must(t, s.Remove(t.Context(), id))
	}
	wantNoVolatile(t, s)
}

// The container's root directory looks like the image's.
func TestVolatileRoot(t *testing.T) {
	s := open(t, t.TempDir(), driverOverlay)
	img := image(t, s, hello)
	im, err := s.store.Image(strings.TrimPrefix(string(img), "sha256:"))
	must(t, err)
	must(t, os.Chmod(s.topDir(base{im.ID, im.TopLayer}), 0o777|os.ModeSticky))
	var modes []os.FileMode
	for _, create := range []func() moss.ContainerID{
		func() moss.ContainerID {
			id := moss.ContainerID(moss.NewHexID())
			must(t, s.Create(t.Context(), id, img))
			return id
		},
		func() moss.ContainerID {
			id := moss.ContainerID(moss.NewHexID())
			must(t, s.CreateVolatile(t.Context(), id, img))
			return id
		},
	} {
		id := create()
		m, err := s.Mount(t.Context(), id)
		must(t, err)
		st, err := os.Stat(m.Path)
		must(t, err)
		modes = append(modes, st.Mode())
		must(t, s.Remove(t.Context(), id))
	}
	if modes[0] != modes[1] {
		t.Errorf("the root's modes are %v", modes)
	}
}
