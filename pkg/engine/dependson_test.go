package engine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// composed is a container of a compose file.
func composed(name, after string) option {
	return func(q *moss.CreateRequest) {
		q.Name = name
		q.Config.Labels = map[string]string{
			"com.docker.compose.project": "p", "com.docker.compose.service": name, "com.docker.compose.depends_on": after,
		}
	}
}

// everyFive has a check every five seconds, and is unhealthy when three have failed.
func everyFive(q *moss.CreateRequest) {
	healthcheck(moss.Healthcheck{Test: []string{"CMD", "check"}, Interval: 5 * time.Second, Retries: 3})(q)
}

// outage takes all units away, as a reboot does, and starts a daemon.
func (r *rig) outage(all ...moss.ContainerID) {
	r.t.Helper()
	r.reboot(true, func() {
		for _, id := range all {
			r.must(r.units.Collect(r.t.Context(), id))
		}
		r.records.Reboot()
	})
}

// dbAndWeb are a database with a check, which ends with code, and what waits for its health.
func (r *rig) dbAndWeb() (code *atomic.Int64, db, web moss.ContainerID) {
	r.t.Helper()
	code, always := new(atomic.Int64), policy(moss.RestartAlways, 0)
	r.probes(code)
	db = r.run(composed("db", ""), always, everyFive)
	return code, db, r.run(composed("web", "db:service_healthy:true"), always)
}

func TestRebootWaitsForHealth(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		code, db, web := r.dbAndWeb()
		always := policy(moss.RestartAlways, 0)
		front := r.run(composed("front", "web:service_started:false"), always)
		alone := r.run(composed("alone", ""), always)
		all := []moss.ContainerID{db, web, front, alone}

		code.Store(1)
		r.outage(all...)
		pass(9 * time.Second) // the first check has failed
		r.wantState(db, moss.StateRunning, 0)
		r.wantState(alone, moss.StateRunning, 0)
		for _, id := range []moss.ContainerID{web, front} {
			if s := r.get(id).State; s != moss.StateRestarting {
				t.Errorf("%s is %s before its dependency is healthy", r.get(id).Name, s)
			}
		}
		code.Store(0)
		pass(2 * time.Second)
		for _, id := range all {
			r.wantState(id, moss.StateRunning, 0)
		}

		// Where it will not be healthy, the policy counts.
		code.Store(1)
		r.outage(all...)
		pass(14 * time.Second)
		if s := r.get(web).State; s != moss.StateRestarting {
			t.Errorf("it is %s before its dependency is unhealthy", s)
		}
		pass(2 * time.Second)
		r.wantState(web, moss.StateRunning, 0)
		r.wantState(front, moss.StateRunning, 0)

		// Nor where it ends, or is removed.
		r.outage(all...)
		pass(time.Second)
		r.must(r.remove(db, true))
		pass(time.Second)
		r.wantState(web, moss.StateRunning, 0)
		r.check()
	})
}

// What waits for health outlives the daemon, and can be called off.
func TestWaitForHealthIsInterrupted(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		_, db, web := r.dbAndWeb()
		always := policy(moss.RestartAlways, 0)
		stopped := r.run(composed("stopped", "db:service_healthy:true"), always)
		begun := r.run(composed("begun", "db:service_healthy:true"), always)
		r.must(r.stop(web)) // also one that had ended, as always says
		r.outage(db, stopped, begun)
		pass(time.Second)
		r.reboot(false, nil)
		if s := r.get(web).State; s != moss.StateRestarting {
			t.Errorf("it is %s, and waits in the next daemon as well", s)
		}
		r.must(r.stop(stopped))
		r.start(begun)
		pass(time.Minute)
		r.wantState(web, moss.StateRunning, 0)
		r.wantState(begun, moss.StateRunning, 0)
		r.wantState(stopped, moss.StateExited, 255)
		r.check()
	})
}

func TestRebootWaitsForCompletion(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		migrate := r.run(composed("migrate", ""), policy(moss.RestartOnFailure, 0))
		web := r.run(composed("web", "migrate:service_completed_successfully:false"), policy(moss.RestartAlways, 0))
		r.outage(migrate, web) // it was at it
		pass(time.Minute)
		r.wantState(migrate, moss.StateRunning, 0)
		if s := r.get(web).State; s != moss.StateRestarting {
			t.Errorf("it is %s before its dependency has completed", s)
		}
		r.exit(migrate, 0)
		pass(time.Second)
		r.wantState(web, moss.StateRunning, 0)

		r.outage(web) // it has completed long ago
		pass(time.Second)
		r.wantState(web, moss.StateRunning, 0)
		r.wantState(migrate, moss.StateExited, 0)
		r.check()
	})
}
