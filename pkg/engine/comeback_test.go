package engine_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// After a reboot containers come up in the order of what they depend on, also where that is a circle.
func TestRebootKeepsOrder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		always := policy(moss.RestartAlways, 0)
		labels := func(service, after string) option {
			return func(q *moss.CreateRequest) {
				q.Config.Labels = map[string]string{"com.docker.compose.project": "p", "com.docker.compose.service": service, "com.docker.compose.depends_on": after}
			}
		}
		var all []moss.ContainerID
		add := func(opts ...option) {
			id := r.run(append(opts, always)...)
			all = append(all, id)
			time.Sleep(time.Second) // their age counts
		}
		add(named("top"), labels("top", "middle:service_started:false"))
		add(named("egg"), labels("egg", "hen"))
		add(named("middle"), labels("middle", "base:service_healthy:true"))
		add(named("base"), labels("base", ""))
		add(named("client"), linked("base:b"), func(q *moss.CreateRequest) { q.Config.Labels = nil })
		add(named("hen"), labels("hen", "egg:service_started:true"))
		r.runtime.OnStart = func(*moss.Container) error { time.Sleep(time.Second); return nil }
		r.reboot(true, func() {
			for _, id := range all {
				r.must(r.units.Collect(t.Context(), id))
			}
			r.records.Reboot()
		})
		time.Sleep(time.Minute)
		at := map[string]time.Time{}
		for _, id := range all {
			r.wantState(id, moss.StateRunning, 0)
			c := r.get(id)
			at[c.Name] = c.Run.StartedAt
		}
		for _, pair := range [][2]string{{"base", "middle"}, {"middle", "top"}, {"base", "client"}, {"hen", "egg"}} {
			if !at[pair[0]].Before(at[pair[1]]) {
				t.Errorf("%s started at %s, %s at %s", pair[0], at[pair[0]], pair[1], at[pair[1]])
			}
		}
	})
}

// Of two that ended together, the one that is linked waits for the other's restart.
func TestRestartWaitsForSupport(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		db := r.run(named("db"), policy(moss.RestartAlways, 0))
		client := r.run(named("client"), linked("db"), policy(moss.RestartAlways, 0))
		failOften := func() { // and wait long for the next restart
			t.Helper()
			time.Sleep(11 * time.Second) // until the wait begins anew
			for range 4 {
				r.exit(db, 1)
				time.Sleep(2 * time.Second)
				r.wantState(db, moss.StateRunning, 0)
			}
			r.exit(db, 1)
		}
		failOften()
		r.exit(client, 1)
		time.Sleep(time.Second)
		r.wantState(client, moss.StateRestarting, 1)
		time.Sleep(2 * time.Second)
		r.wantState(db, moss.StateRunning, 0)
		r.wantState(client, moss.StateRunning, 0)

		// What waits can be called off.
		failOften()
		r.exit(client, 1)
		time.Sleep(time.Second)
		r.must(r.stop(client))
		r.wantState(client, moss.StateExited, 1)
		time.Sleep(time.Minute)
		r.wantState(client, moss.StateExited, 1)

		// One whose support has given up is told so.
		r.start(client)
		failOften()
		r.exit(client, 1)
		time.Sleep(200 * time.Millisecond)
		r.must(r.stop(db))
		time.Sleep(time.Minute)
		if c := r.get(client); c.State != moss.StateExited || !strings.Contains(c.Run.Error, "Cannot link to a non running container") {
			t.Errorf("it is %s: %s", c.State, c.Run.Error)
		}
		if !slices.Contains(r.events.Actions(string(db)), "die") {
			t.Error("no end of db")
		}
	})
}
