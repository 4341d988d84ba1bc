package engine_test

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestNames(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"))
		_, err := r.tryCreate(named("web"))
		r.wantClass(err, moss.Conflict)
		for _, bad := range []string{"-x", "a b", "x", "ü"} {
			_, err := r.tryCreate(named(bad))
			r.wantClass(err, moss.Invalid)
		}
		r.must(r.remove("web", false))
		if again := r.create(named("web")); again == id {
			t.Error("the id is not new")
		}
		seen := map[string]bool{}
		for range 200 {
			c := r.get(r.create())
			if seen[c.Name] || c.Name == "" {
				t.Fatalf("the name %q came twice", c.Name)
			}
			seen[c.Name] = true
		}
		for _, ref := range []string{"web", "/web", string(r.get("web").ID), string(r.get("web").ID)[:20]} {
			if c, err := r.Views().Get(ref); err != nil || c.Name != "web" {
				t.Errorf("%s: %v %v", ref, c.Name, err)
			}
		}
		r.wantClass(r.remove("", false), moss.Invalid)
		r.wantClass(r.remove("nobody", false), moss.NotFound)
	})
}

func TestRemove(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.units.Ignore = func(moss.ContainerID, syscall.Signal) bool { return true }
		id := r.run(named("web"))
		r.wantClass(r.remove(id, false), moss.Conflict)
		r.wantState(id, moss.StateRunning, 0)
		r.must(r.remove(id, true))
		r.wantActions(id, "create", "start", "kill", "die", "destroy")
		r.wantClass(r.remove(id, true), moss.NotFound)
		r.checkEmpty()
	})
}

// What is to go with a container costs no further write of its record.
func TestRemovalWithVolumesIsNotedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		writes := func(remove func(id string) error) (n int) {
			id := string(r.run())
			r.faults.arm(-1, -1)
			r.must(remove(id))
			for _, call := range r.faults.disarm() {
				if call == "Records.Put" {
					n++
				}
			}
			return n
		}
		alone := writes(func(id string) error { return r.remove(moss.ContainerID(id), true) })
		with := writes(func(id string) error { return r.VolumeService().RemoveContainer(t.Context(), id, true) })
		if alone == 0 || with != alone {
			t.Errorf("%d writes of the record, %d without volumes", with, alone)
		}
		r.checkEmpty()
	})
}

func TestEveryStepOfARemovalCanFail(t *testing.T) {
	for step := 0; ; step++ {
		more := false
		bubble(t, func(t *testing.T, r *rig) {
			id := r.create(named("web"))
			r.faults.arm(step, -1)
			err := r.remove(id, false)
			calls := r.faults.disarm()
			if len(calls) <= step {
				r.must(err)
				r.checkEmpty()
				return
			}
			more = true
			if calls[step] == "Records.Put" { // what has begun goes on
				r.must(err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), errInjected.Error()) {
				t.Errorf("%s failed, and remove says %v", calls[step], err)
			}
			c := r.get(id)
			if c.State != moss.StateDead || !strings.Contains(c.Run.Error, errInjected.Error()) {
				t.Errorf("%s failed: %s %q", calls[step], c.State, c.Run.Error)
			}
			r.wantClass(r.Containers().Start(t.Context(), "web"), moss.Conflict)
			r.check()
			_, err = r.tryCreate(named("web"))
			r.wantClass(err, moss.Conflict)
			r.must(r.remove(id, false))
			r.checkEmpty()
			r.create(named("web"))
		})
		if !more {
			return
		}
	}
}

func TestAutoRemove(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(autoRemove)
		r.exit(id, 0)
		r.checkEmpty()
		r.wantActions(id, "create", "start", "die", "destroy")

		id = r.run(autoRemove)
		r.must(r.stop(id))
		synctest.Wait()
		r.checkEmpty()

		id = r.run(autoRemove)
		r.must(r.remove(id, true))
		synctest.Wait()
		r.checkEmpty()
		r.wantActions(id, "create", "start", "kill", "die", "destroy")
	})
}
