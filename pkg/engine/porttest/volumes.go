package porttest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// VolumeStore is all that the engine needs of volumes.
type VolumeStore interface {
	engine.Volumes
	engine.VolumeData
	engine.VolumeMounts
	engine.VolumeDrivers
}

// Volumes runs the contract suites of [engine.Volumes], [engine.VolumeData],
// [engine.VolumeMounts] and [engine.VolumeDrivers] on empty stores without plugins.
func Volumes(t *testing.T, open func(t *testing.T) VolumeStore) {
	t.Run("life", func(t *testing.T) { volumeLife(t, open(t)) })
	t.Run("fill", func(t *testing.T) { volumeFill(t, open(t)) })
	t.Run("mounts", func(t *testing.T) { volumeMounts(t, open(t)) })
	t.Run("drivers", func(t *testing.T) { volumeDrivers(t, open(t)) })
}

func volumeLife(t *testing.T, s VolumeStore) {
	if _, err := s.Get("one"); err == nil || moss.ClassOf(err) != moss.NotFound {
		t.Errorf("get what is not there: %v", err)
	}
	if err := s.Remove(t.Context(), "one"); err == nil || moss.ClassOf(err) != moss.NotFound {
		t.Errorf("remove what is not there: %v", err)
	}
	v, created, err := s.Create(t.Context(), moss.VolumeRequest{Name: "one", Labels: map[string]string{"k": "v"}})
	if err != nil || !created || v.Name != "one" || v.Driver != moss.LocalDriver || v.Labels["k"] != "v" || v.Created.IsZero() {
		t.Fatalf("%+v %v %v", v, created, err)
	}
	if info, err := os.Stat(v.Path); err != nil || !info.IsDir() {
		t.Errorf("its directory: %v", err)
	}
	again, created, err := s.Create(t.Context(), moss.VolumeRequest{Name: "one"})
	if err != nil || created || again.Labels["k"] != "v" || again.Path != v.Path {
		t.Errorf("made again: %+v %v %v", again, created, err)
	}
	if _, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "one", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}); err == nil || moss.ClassOf(err) != moss.Conflict {
		t.Errorf("made with other options: %v", err)
	}
	for _, name := range []string{"../x", "a/b"} {
		if _, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: name}); err == nil || moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "two", Driver: "nosuch"}); err == nil || moss.ClassOf(err) != moss.NotFound {
		t.Errorf("another driver: %v", err)
	}
	random, created, err := s.Create(t.Context(), moss.VolumeRequest{})
	if err != nil || !created || len(random.Name) != 64 {
		t.Errorf("without a name: %+v %v %v", random, created, err)
	}
	if _, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "zz"}); err != nil {
		t.Fatal(err)
	}
	if list := s.List(); len(list) != 3 || list[2].Name != "zz" || list[0].Name > list[1].Name {
		t.Errorf("%+v", list)
	}
	if err := os.WriteFile(filepath.Join(v.Path, "f"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Size(t.Context(), "one"); err != nil || n != 5 {
		t.Errorf("size %d %v", n, err)
	}
	if err := s.Remove(t.Context(), "one"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(v.Path); err == nil {
		t.Error("its files are left")
	}
	if _, err := s.Get("one"); err == nil {
		t.Error("it is there after its removal")
	}
	v, created, err = s.Create(t.Context(), moss.VolumeRequest{Name: "one"})
	if err != nil || !created || len(v.Labels) > 0 {
		t.Errorf("made anew: %+v %v %v", v, created, err)
	}
	if have, err := os.ReadDir(v.Path); err != nil || len(have) > 0 {
		t.Errorf("%v %v are in a new one", have, err)
	}
}

func volumeFill(t *testing.T, s VolumeStore) {
	v, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	root := moss.Mount{Path: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(root.Path, "etc/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root.Path, "etc/sub/f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/nosuch", "/etc/sub/f"} {
		if err := s.Fill(t.Context(), "data", root, dir); err != nil {
			t.Errorf("fill with %s: %v", dir, err)
		}
	}
	for range 2 { // the second time it is not empty
		if err := s.Fill(t.Context(), "data", root, "/etc"); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(v.Path, "sub/f")); err != nil || string(text) != "x" {
			t.Errorf("%q %v", text, err)
		}
		if err := os.WriteFile(filepath.Join(root.Path, "etc/sub/f"), []byte("y"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func volumeMounts(t *testing.T, s VolumeStore) {
	v, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(v.Path, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	id := moss.ContainerID(moss.NewHexID())
	bind := moss.MountPoint{Type: moss.MountBind, Source: "/tmp", Target: "/bind"}
	whole := moss.MountPoint{Type: moss.MountVolume, Name: "data", Source: v.Path, Target: "/whole", ReadOnly: true}
	part := whole
	part.SubPath = "a"
	for range 2 { // as after a kill
		got, err := s.Expose(t.Context(), id, []moss.MountPoint{bind, whole, part})
		if err != nil || len(got) != 3 || got[0] != bind || got[1].Type != moss.MountBind || got[1].Source != v.Path || !got[1].ReadOnly || got[2].Type != moss.MountBind {
			t.Fatalf("%+v %v", got, err)
		}
		if _, err := os.Stat(filepath.Join(got[2].Source, "b")); err != nil {
			t.Error(err)
		}
	}
	part.SubPath = "nosuch"
	if _, err := s.Expose(t.Context(), id, []moss.MountPoint{whole, part}); err == nil || moss.ClassOf(err) != moss.Invalid {
		t.Errorf("a part that is not there: %v", err)
	}
	for range 2 {
		if err := s.Conceal(t.Context(), id); err != nil {
			t.Error(err)
		}
		if err := s.Mount(t.Context(), "data", id); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := s.Unmount(t.Context(), "data", id); err != nil {
			t.Error(err)
		}
	}
	if err := s.Mount(t.Context(), "nosuch", id); err == nil || moss.ClassOf(err) != moss.NotFound {
		t.Errorf("mount what is not there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(v.Path, "a/b")); err != nil {
		t.Error(err)
	}
}

func volumeDrivers(t *testing.T, s VolumeStore) {
	for verb, f := range map[string]func() error{
		"look":   func() error { _, err := s.Look(t.Context(), "data"); return err },
		"adopt":  func() error { _, err := s.Adopt(t.Context(), "data"); return err },
		"forget": func() error { return s.Forget(t.Context(), "data") },
	} {
		if err := f(); err == nil || moss.ClassOf(err) != moss.NotFound {
			t.Errorf("%s what is not there: %v", verb, err)
		}
	}
	v, _, err := s.Create(t.Context(), moss.VolumeRequest{Name: "data"})
	if err != nil {
		t.Fatal(err)
	}
	s.Settle(func(moss.ContainerID) bool { return false })
	if have, err := s.Look(t.Context(), "data"); err != nil || have.Path != v.Path {
		t.Errorf("look: %+v %v", have, err)
	}
	if have, err := s.Adopt(t.Context(), "data"); err != nil || have.Path != v.Path {
		t.Errorf("adopt: %+v %v", have, err)
	}
	if all, warnings := s.Listed(t.Context()); len(all) != 1 || all[0].Path != v.Path || len(warnings) > 0 {
		t.Errorf("listed: %+v %v", all, warnings)
	}
	if err := s.Forget(t.Context(), "data"); err != nil {
		t.Errorf("forget: %v", err)
	}
	if _, err := s.Get("data"); err != nil {
		t.Errorf("a volume of the engine's own is not forgotten: %v", err)
	}
}
