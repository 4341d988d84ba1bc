package engine_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/moss"
)

func withVolume(name string) option {
	return func(q *moss.CreateRequest) {
		q.Host.Mounts = append(q.Host.Mounts, moss.MountPoint{Type: moss.MountVolume, Name: name, Target: "/" + name})
	}
}

func withAnonymous(q *moss.CreateRequest) { q.Config.Volumes = append(q.Config.Volumes, "/anon") }

func (r *rig) volumeNames() []string {
	var names []string
	for _, v := range r.volumes.List() {
		names = append(names, v.Name)
	}
	return names
}

func (r *rig) wantVolumes(n int) {
	r.t.Helper()
	if names := r.volumeNames(); len(names) != n {
		r.t.Errorf("volumes %q, want %d", names, n)
	}
}

// A volume that a container has, running or not, is neither removed nor pruned,
// also not by a daemon that has just begun.
func TestVolumeInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		id := r.create(withVolume("data"))
		busy := func() {
			t.Helper()
			if err := r.VolumeService().Remove(t.Context(), "data", true); moss.ClassOf(err) != moss.Conflict || err == nil {
				t.Errorf("remove: %v, want Conflict", err)
			}
			if done, err := r.VolumeService().Prune(t.Context(), moss.VolumeFilter{All: true}); err != nil || len(done.Removed) > 0 {
				t.Errorf("prune: %v %v", done, err)
			}
			no := false
			if l, _ := r.VolumeService().List(t.Context(), moss.VolumeFilter{Dangling: &no}); len(l) != 1 {
				t.Errorf("%v are in use", l)
			}
		}
		busy()
		r.crash()
		r.boot(false)
		busy()
		if err := r.Containers().Remove(t.Context(), string(id), false); err != nil {
			t.Fatal(err)
		}
		if done, err := r.VolumeService().Prune(t.Context(), moss.VolumeFilter{}); err != nil || len(done.Removed) > 0 {
			t.Errorf("a prune of the anonymous ones: %v %v", done, err)
		}
		if err := r.VolumeService().Remove(t.Context(), "data", false); err != nil {
			t.Error(err)
		}
		r.wantVolumes(0)
	})
}

func TestAnonymousVolumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		first := r.create(withAnonymous, withVolume("data"), named("first"))
		r.wantVolumes(2)
		second := r.create(func(q *moss.CreateRequest) {
			q.Host.VolumesFrom = []moss.VolumesFrom{{Container: "first", ReadOnly: true}}
		})
		r.wantVolumes(2)
		for _, m := range r.get(second).Mounts {
			if !m.ReadOnly || m.Type != moss.MountVolume {
				t.Errorf("%+v", m)
			}
		}
		// What another container has stays, and so does what has a name.
		if err := r.VolumeService().RemoveContainer(t.Context(), string(first), false); err != nil {
			t.Fatal(err)
		}
		r.wantVolumes(2)
		if err := r.VolumeService().RemoveContainer(t.Context(), string(second), false); err != nil {
			t.Fatal(err)
		}
		if names := r.volumeNames(); len(names) != 1 || names[0] != "data" {
			t.Errorf("%q are left", names)
		}
	})
}

// What a create has made goes when it fails.
func TestCreateFailsWithVolumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		_, err := r.tryCreate(withVolume("good"), func(q *moss.CreateRequest) {
			q.Host.Mounts = append(q.Host.Mounts, moss.MountPoint{Type: moss.MountVolume, Name: "bad", Target: "/b", Ask: &moss.VolumeRequest{Driver: "nosuch"}})
		})
		if err == nil || moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%v, want Invalid", err)
		}
		r.wantVolumes(0)
		r.checkEmpty()
	})
}

// What a volume's options mount stays while someone runs with it, and no longer.
func TestVolumeMounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		if _, err := r.VolumeService().Create(t.Context(), moss.VolumeRequest{Name: "mem", Options: map[string]string{"type": "tmpfs"}}); err != nil {
			t.Fatal(err)
		}
		a, b := r.create(withVolume("mem")), r.create(withVolume("mem"))
		for _, id := range []moss.ContainerID{a, b} {
			if err := r.Containers().Start(t.Context(), string(id)); err != nil {
				t.Fatal(err)
			}
		}
		stop := func(id moss.ContainerID, still bool) {
			t.Helper()
			if err := r.Containers().Stop(t.Context(), string(id), moss.StopOptions{}); err != nil {
				t.Fatal(err)
			}
			if r.volumes.Mounted("mem") != still || r.volumes.Exposed(id) {
				t.Errorf("mounted: %v, want %v; exposed: %v", r.volumes.Mounted("mem"), still, r.volumes.Exposed(id))
			}
		}
		stop(a, true)
		stop(b, false)

		// A start that fails leaves nothing.
		c := r.create(func(q *moss.CreateRequest) {
			q.Host.Mounts = []moss.MountPoint{{Type: moss.MountVolume, Name: "mem", Target: "/m", SubPath: "nosuch"}}
		})
		if err := r.Containers().Start(t.Context(), string(c)); err == nil {
			t.Error("a part that is not there was mounted")
		}
		if r.volumes.Mounted("mem") {
			t.Error("the volume stays mounted after a start that failed")
		}
	})
}

// An empty volume gets the image's files, another one does not.
func TestVolumeFill(t *testing.T) {
	r := newRig(t, false)
	id := imageID[:len(imageID)-1] + "2"
	r.images.Add(moss.Image{ID: id, Names: []string{"docker.io/library/full:latest"}, OS: "linux", Architecture: "amd64", Config: moss.ContainerConfig{Volumes: []string{"/data"}, Cmd: []string{"x"}}})
	r.rootfs.AddImage(id, map[string]string{"data/f": "image's"})
	r.create(func(q *moss.CreateRequest) { q.Config.Image = "full" }, withVolume("data"))
	v, err := r.VolumeService().Get(t.Context(), "data")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(v.Path, "f")
	if text, err := os.ReadFile(file); err != nil || string(text) != "image's" {
		t.Errorf("%q %v", text, err)
	}
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.create(func(q *moss.CreateRequest) { q.Config.Image = "full" }, withVolume("data"))
	if text, err := os.ReadFile(file); err != nil || string(text) != "mine" {
		t.Errorf("%q %v after a second container", text, err)
	}
	r.wantVolumes(1)
}
