package engine_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/moss"
)

func withImage(name, target string) option {
	return func(q *moss.CreateRequest) {
		q.Host.Mounts = append(q.Host.Mounts, moss.MountPoint{Type: moss.MountImage, Name: name, Target: target, ReadOnly: true})
	}
}

// An image that a container mounts is in use as the one that it is made of, and
// its layer comes and goes with the container.
func TestImageMount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		data := moss.Image{ID: "sha256:" + moss.ImageID(moss.NewHexID()), Names: []string{"docker.io/library/data:latest"}}
		r.images.Add(data)
		id := r.create(withImage("data", "/data"), named("one"))
		layers := func(want int) {
			t.Helper()
			list, err := r.rootfs.List(t.Context())
			r.must(err)
			if len(list) != want {
				t.Errorf("layers %v, want %d", list, want)
			}
		}
		layers(2)
		inUse := func() {
			t.Helper()
			if _, err := r.ImageService().Remove(t.Context(), "data", false, false); err == nil || moss.ClassOf(err) != moss.Conflict || !strings.Contains(err.Error(), "container "+id.Short()+" is using its referenced image") {
				t.Errorf("remove: %v", err)
			}
			if done, err := r.ImageService().Prune(t.Context(), moss.ImageFilter{Dangling: new(bool)}); err != nil || len(done.Removed) > 0 {
				t.Errorf("prune: %+v %v", done, err)
			}
		}
		inUse()
		r.must(r.Containers().Start(t.Context(), string(id)))
		b, _ := r.runtime.Bundle(id)
		if m := b.Container.Mounts[0]; m.Type != moss.MountBind || m.Source == "" || !m.ReadOnly || m.Target != "/data" {
			t.Errorf("%+v", m)
		}
		r.crash()
		r.boot(false)
		inUse()
		two := r.create(func(q *moss.CreateRequest) { q.Host.VolumesFrom = []moss.VolumesFrom{{Container: "one"}} })
		layers(4)
		if m := r.get(two).Mounts[0]; m.Image != data.ID || m.Layer == r.get(id).Mounts[0].Layer {
			t.Errorf("%+v", m)
		}
		r.check()
		r.must(r.Containers().Remove(t.Context(), string(id), true))
		layers(2)
		r.must(r.Containers().Remove(t.Context(), string(two), true))
		layers(0)
		if done, err := r.ImageService().Remove(t.Context(), "data", false, false); err != nil || len(done) != 2 {
			t.Errorf("%+v %v", done, err)
		}
		if _, err := r.tryCreate(withImage("nosuch", "/x")); err == nil || moss.ClassOf(err) != moss.Invalid {
			t.Errorf("an image that there is not: %v", err)
		}
		layers(0)
		r.check()
	})
}
