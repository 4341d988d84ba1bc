package engine_test

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

func (f faultyRootfs) CreateMapped(ctx context.Context, id moss.ContainerID, image moss.ImageID, maps moss.IDMaps, volatile bool) error {
	if err := f.f.hit("Rootfs.CreateMapped"); err != nil {
		return err
	}
	return f.Rootfs.(engine.MappedRootfs).CreateMapped(ctx, id, image, maps, volatile)
}

func userns(u moss.Userns) option {
	return func(q *moss.CreateRequest) { q.Host.Userns, q.Host.UsernsMode = u, string(u.Mode) }
}

func idMaps(m ...moss.IDMap) []moss.IDMap { return m }

func TestUsernsMaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		five, six := uint32(5), uint32(6)
		for name, c := range map[string]struct {
			u    moss.Userns
			want *moss.IDMaps
			user string
		}{
			"host": {moss.Userns{}, nil, ""},
			"keep-id": {moss.Userns{Mode: moss.UsernsKeepID}, &moss.IDMaps{
				UIDs: idMaps(moss.IDMap{Container: 0, Engine: 1, Size: 1000}, moss.IDMap{Container: 1000, Engine: 0, Size: 1}, moss.IDMap{Container: 1001, Engine: 1001, Size: 64536}),
				GIDs: idMaps(moss.IDMap{Container: 0, Engine: 1, Size: 100}, moss.IDMap{Container: 100, Engine: 0, Size: 1}, moss.IDMap{Container: 101, Engine: 101, Size: 59900}),
			}, "1000:100"},
			"keep-id another": {moss.Userns{Mode: moss.UsernsKeepID, UID: &five, GID: &six}, &moss.IDMaps{
				UIDs: idMaps(moss.IDMap{Container: 0, Engine: 1, Size: 5}, moss.IDMap{Container: 5, Engine: 0, Size: 1}, moss.IDMap{Container: 6, Engine: 6, Size: 65531}),
				GIDs: idMaps(moss.IDMap{Container: 0, Engine: 1, Size: 6}, moss.IDMap{Container: 6, Engine: 0, Size: 1}, moss.IDMap{Container: 7, Engine: 7, Size: 59994}),
			}, "5:6"},
			"nomap": {moss.Userns{Mode: moss.UsernsNoMap}, &moss.IDMaps{UIDs: idMaps(moss.IDMap{Engine: 1, Size: 65536}), GIDs: idMaps(moss.IDMap{Engine: 1, Size: 60000})}, ""},
			"map":   {moss.Userns{Mode: moss.UsernsMap, Maps: moss.IDMaps{UIDs: idMaps(moss.IDMap{Engine: 9, Size: 2}), GIDs: idMaps(moss.IDMap{Engine: 8, Size: 1})}}, &moss.IDMaps{UIDs: idMaps(moss.IDMap{Engine: 9, Size: 2}), GIDs: idMaps(moss.IDMap{Engine: 8, Size: 1})}, ""},
		} {
			rec := r.get(r.create(userns(c.u)))
			if !reflect.DeepEqual(rec.IDMaps, c.want) || rec.Config.User != c.user {
				t.Errorf("%s: %+v %q, want %+v %q", name, rec.IDMaps, rec.Config.User, c.want, c.user)
			}
		}
		if rec := r.get(r.create(userns(moss.Userns{Mode: moss.UsernsKeepID}), func(q *moss.CreateRequest) { q.Config.User = "7" })); rec.Config.User != "7" {
			t.Errorf("the user asked for is %q", rec.Config.User)
		}
		for want, u := range map[string]moss.Userns{
			"goes beyond the engine's ids, 0 to 65536": {Mode: moss.UsernsMap, Maps: moss.IDMaps{UIDs: idMaps(moss.IDMap{Engine: 1, Size: 65537}), GIDs: idMaps(moss.IDMap{Engine: 1, Size: 1})}},
			"overlap":                {Mode: moss.UsernsMap, Maps: moss.IDMaps{UIDs: idMaps(moss.IDMap{Engine: 1, Size: 9}, moss.IDMap{Container: 9, Engine: 9, Size: 1}), GIDs: idMaps(moss.IDMap{Engine: 1, Size: 1})}},
			"is the container's 0":   {Mode: moss.UsernsMap, Maps: moss.IDMaps{UIDs: idMaps(moss.IDMap{Container: 1, Engine: 1, Size: 9}), GIDs: idMaps(moss.IDMap{Engine: 1, Size: 1})}},
			"0 to 60000":             {Mode: moss.UsernsMap, Maps: moss.IDMaps{UIDs: idMaps(moss.IDMap{Engine: 1, Size: 1}), GIDs: idMaps(moss.IDMap{Engine: 1, Size: 60001})}},
			"there are no 60001 ids": {Mode: moss.UsernsAuto, Size: 60001},
			"invalid userns mode":    {Mode: "what"},
		} {
			if _, err := r.tryCreate(userns(u)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
		huge := uint32(1 << 31)
		if _, err := r.tryCreate(userns(moss.Userns{Mode: moss.UsernsKeepID, UID: &huge})); moss.ClassOf(err) != moss.Invalid || err == nil {
			t.Errorf("an id that there is not: %v", err)
		}
		r.check()
	})
}

// Slices of auto never meet, whatever came and went, and also after a crash.
func TestUsernsAuto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		var ids []moss.ContainerID
		slice := func(id moss.ContainerID) moss.IDMap { return r.get(id).IDMaps.UIDs[0] }
		apart := func() {
			t.Helper()
			for i, a := range ids {
				for _, b := range ids[:i] {
					x, y := slice(a), slice(b)
					if x.Engine == 0 || x.Engine < y.Engine+y.Size && y.Engine < x.Engine+x.Size {
						t.Errorf("%+v and %+v", x, y)
					}
				}
			}
		}
		for _, size := range []uint32{0, 5000, 0, 1, 30000} {
			ids = append(ids, r.create(userns(moss.Userns{Mode: moss.UsernsAuto, Size: size})))
		}
		apart()
		r.crash()
		r.boot(false)
		ids = append(ids, r.create(userns(moss.Userns{Mode: moss.UsernsAuto})))
		apart()
		if _, err := r.tryCreate(userns(moss.Userns{Mode: moss.UsernsAuto, Size: 40000})); err == nil || moss.ClassOf(err) != moss.Conflict {
			t.Errorf("more than there is: %v", err)
		}
		was := slice(ids[1])
		r.must(r.Containers().Remove(t.Context(), string(ids[1]), false))
		ids[1] = r.create(userns(moss.Userns{Mode: moss.UsernsAuto, Size: 5000}))
		if slice(ids[1]) != was {
			t.Errorf("%+v, want what is free again, %+v", slice(ids[1]), was)
		}
		apart()
		// A failed one keeps nothing.
		r.rootfs.Fail("Create", moss.Errorf(moss.Internal, "no"))
		for range 3 {
			if _, err := r.tryCreate(userns(moss.Userns{Mode: moss.UsernsAuto, Size: 15000})); err == nil || moss.ClassOf(err) == moss.Conflict {
				t.Error("a layer that cannot be made:", err)
			}
		}
		r.rootfs.Fail("Create", nil)
		r.check()
	})
}

func TestUsernsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		other := r.create(named("other"))
		r.must(r.Containers().Start(t.Context(), string(other)))
		_, err := r.tryCreate(userns(moss.Userns{Mode: moss.UsernsAuto}), func(q *moss.CreateRequest) { q.Host.PidMode = "container:other" })
		if err == nil || moss.ClassOf(err) != moss.NotImplemented {
			t.Error(err)
		}
		r.makeSecret(moss.KindSecret, "db", "geheim")
		id := r.create(userns(moss.Userns{Mode: moss.UsernsAuto}), withLabel("moss.secret.db", "uid=2000"))
		if err := r.Containers().Start(t.Context(), string(id)); err == nil || !strings.Contains(err.Error(), "the secret db cannot belong to 2000:0") {
			t.Error(err)
		}
		r.check()
	})
}
