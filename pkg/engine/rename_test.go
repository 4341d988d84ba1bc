package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestRename(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		rename := func(ref, name string) error { return r.Containers().Rename(t.Context(), ref, name) }
		web, db := r.run(named("web")), r.create(named("db"), autoRemove)
		for _, bad := range []string{"", "/", "a", "no good", "web"} {
			r.wantClass(rename("web", bad), moss.Invalid)
		}
		r.wantClass(rename("web", "db"), moss.Conflict)
		r.wantClass(rename("nobody", "site"), moss.NotFound)
		r.must(rename("web", "/site"))
		if !r.gone("web") || r.get("site").ID != web {
			t.Errorf("it is %q", r.get(web).Name)
		}
		if got := r.get("site").Network.Names; !slices.Equal(got, []string{"site"}) {
			t.Errorf("in its network it is %q", got)
		}
		r.must(rename(string(db[:20]), "web")) // free again
		last := r.events.Of(string(web))[2]
		if last.Action != "rename" || last.Attributes["name"] != "site" || last.Attributes["oldName"] != "/web" {
			t.Errorf("%+v", last)
		}
		r.check()
		r.crash()
		r.boot(false)
		if r.get("site").ID != web || r.get("web").ID != db {
			t.Error("the names are forgotten")
		}
		r.wantState(web, moss.StateRunning, 0)

		r.faults.arm(0, -1)
		if err := rename("site", "other"); err == nil {
			t.Error("renamed, though it could not be written")
		}
		r.faults.disarm()
		if !r.gone("other") || r.get("site").ID != web {
			t.Error("a failed renaming changed the names")
		}
		r.must(rename("web", "other"))
		r.must(r.remove(db, true))
		r.must(r.remove(web, true))
		r.create(named("site")) // no name is kept
		r.create(named("other"))
	})
}

func TestPruneContainers(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		labeled := func(kv string) option {
			return func(q *moss.CreateRequest) { q.Config.Labels = map[string]string{kv: "1"} }
		}
		prune := func(f moss.PruneFilter, want ...moss.ContainerID) {
			t.Helper()
			got, err := r.Containers().Prune(t.Context(), f)
			r.must(err)
			slices.Sort(want)
			if slices.Sort(got.Removed); !slices.Equal(got.Removed, want) {
				t.Errorf("%+v: removed %v, want %v", f, got.Removed, want)
			}
			for _, id := range want {
				if !r.gone(id) {
					t.Errorf("%s is still there", id)
				}
			}
		}
		old := r.create()
		time.Sleep(time.Hour)
		young, kept := r.create(labeled("a")), r.create(labeled("keep"))
		running, waiting, ended := r.run(), r.run(policy(moss.RestartAlways, 0)), r.run()
		r.writeFile(ended, "wrote", "0123456789")
		r.exit(ended, 1)
		r.exit(waiting, 1)
		r.wantState(waiting, moss.StateRestarting, 1)

		prune(moss.PruneFilter{Until: time.Now().Add(-time.Minute)}, old)
		prune(moss.PruneFilter{Labels: []string{"a", "b"}})
		prune(moss.PruneFilter{Labels: []string{"a=1"}}, young)
		freed, err := r.Containers().Prune(t.Context(), moss.PruneFilter{NotLabel: []string{"keep"}})
		r.must(err)
		if !slices.Equal(freed.Removed, []moss.ContainerID{ended}) || freed.Reclaimed < 10 {
			t.Errorf("%+v", freed)
		}
		settle()
		r.wantState(waiting, moss.StateRunning, 0)
		r.must(r.stop(waiting))
		prune(moss.PruneFilter{}, waiting, kept)
		r.wantState(running, moss.StateRunning, 0)
		r.must(r.remove(running, true))
		r.checkEmpty()
	})
}

// A container that cannot be removed is left dead, and the next prune has it.
func TestPruneGoesOnAfterAFailure(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.create(named("one"))
		r.create(named("two"))
		r.faults.arm(1, -1)
		got, err := r.Containers().Prune(t.Context(), moss.PruneFilter{})
		r.must(err)
		if calls := r.faults.disarm(); len(got.Removed) != 1 || calls[1] != "Rootfs.Remove" {
			t.Errorf("%+v after %q", got, calls)
		}
		got, err = r.Containers().Prune(t.Context(), moss.PruneFilter{})
		r.must(err)
		if len(got.Removed) != 1 {
			t.Errorf("%+v", got)
		}
		r.checkEmpty()
	})
}
