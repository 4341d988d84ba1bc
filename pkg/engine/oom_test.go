package engine_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// A process that the kernel kills in a container that goes on is told at once, and not again at the end.
func TestKilledInside(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		told := []string{"create", "start"}
		for range 2 {
			r.units.OOMInside(id)
			synctest.Wait()
			told = append(told, "oom")
			r.wantActions(id, told...)
			r.wantState(id, moss.StateRunning, 0)
			if !r.get(id).Run.OOMKilled {
				t.Error("it does not count as killed")
			}
		}
		r.units.Retell()
		synctest.Wait()
		r.wantActions(id, told...)
		r.exit(id, 0)
		synctest.Wait()
		r.wantState(id, moss.StateExited, 0)
		r.wantActions(id, append(told, "die")...)
		if !r.get(id).Run.OOMKilled {
			t.Error("its end has made it forget")
		}
		r.start(id)
		if run := r.get(id).Run; run.OOMKilled || run.OOMKills != 0 {
			t.Errorf("the new run has the old one's kills: %+v", run)
		}
		r.units.OOMInside(id)
		synctest.Wait()
		r.units.OOM(id)
		synctest.Wait()
		r.wantState(id, moss.StateExited, 137)
		r.wantActions(id, append(told, "die", "start", "oom", "oom", "die")...)
	})
}

// A kill is told by the daemon that sees it, or by the next one, and never by both.
func TestKilledInsideOverRestarts(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		r.units.OOMInside(id)
		r.reboot(false, nil)
		r.wantActions(id, "create", "start", "oom")
		var killed []time.Time // what nobody watched has the time it had
		away := func(kill func(moss.ContainerID)) func() {
			return func() {
				time.Sleep(time.Minute)
				killed = append(killed, time.Now())
				kill(id)
				time.Sleep(time.Minute)
			}
		}
		r.reboot(false, away(r.units.OOMInside))
		r.wantActions(id, "create", "start", "oom", "oom")
		r.reboot(false, away(r.units.OOM))
		for i, e := range r.events.Of(string(id))[3:5] {
			if !e.Time.Equal(killed[i]) {
				t.Errorf("%s is told to have been at %v, want %v", e.Action, e.Time, killed[i])
			}
		}
		r.wantState(id, moss.StateExited, 137)
		r.wantActions(id, "create", "start", "oom", "oom", "oom", "die")
		r.check()
	})
}

// One that vanishes with all that is known of its end was killed in all the same.
func TestKilledInsideAndLost(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		r.units.OOMInside(id)
		r.reboot(false, func() { r.clear(id) })
		r.wantState(id, moss.StateExited, 255)
		if !r.get(id).Run.OOMKilled {
			t.Error("it is forgotten")
		}
	})
}

// A kill that comes while a start is under way is told after it.
func TestKilledInsideWhileItStarts(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create()
		r.runtime.OnStart = func(*moss.Container) error {
			r.units.OOMInside(id)
			synctest.Wait()
			return nil
		}
		r.start(id)
		synctest.Wait()
		if got := r.events.Actions(string(id)); !slices.Equal(got, []string{"create", "start", "oom"}) {
			t.Error(got)
		}
	})
}
