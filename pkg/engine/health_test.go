package engine_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

func healthcheck(h moss.Healthcheck) option {
	return func(q *moss.CreateRequest) { q.Config.Healthcheck = &h }
}

func onUnhealthy(a string) option {
	return func(q *moss.CreateRequest) { q.Config.Labels = map[string]string{moss.UnhealthyLabel: a} }
}

// probes makes execs answer: code is read at each; negative ones run until they are killed.
func (r *rig) probes(code *atomic.Int64) *atomic.Int64 {
	var n, pid atomic.Int64
	pid.Store(9000)
	r.runtime.OnExec = func(*moss.Exec, moss.ChildStdio) (*fake.Process, error) {
		n.Add(1)
		p := fake.NewProcess(int(pid.Add(1)))
		switch c := code.Load(); {
		case c == 1000:
			return nil, errors.New("no such program")
		case c >= 0:
			p.Exit(int(c))
		}
		return p, nil
	}
	return &n
}

func (r *rig) health(id moss.ContainerID) moss.Health {
	r.t.Helper()
	h := r.get(id).Run.Health
	if h == nil {
		r.t.Fatal("it has no health")
	}
	return *h
}

func (r *rig) wantHealth(id moss.ContainerID, status moss.HealthStatus, streak, logged int) {
	r.t.Helper()
	h := r.health(id)
	if h.Status != status || h.FailingStreak != streak || len(h.Log) != logged {
		r.t.Errorf("health %s, %d failures, %d logged, want %s, %d, %d", h.Status, h.FailingStreak, len(h.Log), status, streak, logged)
	}
}

// healthEvents are the changes of health that were told.
func (r *rig) healthEvents(id moss.ContainerID) []string {
	return slices.DeleteFunc(r.events.Actions(string(id)), func(a string) bool { return !strings.HasPrefix(a, "health_status") })
}

// pass lets time go by, and everything that is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestHealth(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var code atomic.Int64
		n := r.probes(&code)
		id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD", "check", "it"}, Interval: 10 * time.Second, Retries: 2}))
		pass(9 * time.Second)
		r.wantHealth(id, moss.HealthStarting, 0, 0)
		pass(2 * time.Second)
		r.wantHealth(id, moss.HealthHealthy, 0, 1)
		code.Store(3)
		pass(10 * time.Second)
		r.wantHealth(id, moss.HealthHealthy, 1, 2)
		pass(10 * time.Second)
		r.wantHealth(id, moss.HealthUnhealthy, 2, 3)
		code.Store(0)
		pass(100 * time.Second)
		r.wantHealth(id, moss.HealthHealthy, 0, 5)
		if n.Load() != 13 {
			t.Errorf("%d probes in 131 s", n.Load())
		}
		for _, f := range []struct {
			health moss.HealthStatus
			found  int
		}{{moss.HealthHealthy, 1}, {moss.HealthStarting, 0}, {moss.HealthNone, 0}} {
			list, err := r.Views().List(moss.ContainerFilter{Health: []moss.HealthStatus{f.health}})
			if r.must(err); len(list) != f.found {
				t.Errorf("%d found by health=%s", len(list), f.health)
			}
		}
		want := []string{"health_status: healthy", "health_status: unhealthy", "health_status: healthy"}
		if got := r.healthEvents(id); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
		if got := r.events.Actions(string(id))[2:6]; !slices.Equal(got, []string{"exec_create: check it", "exec_start: check it", "exec_die", want[0]}) {
			t.Errorf("a probe's events are %q", got)
		}
		if ids := r.get(id).Execs; len(ids) > 0 {
			t.Errorf("execs %q are left", ids)
		}
		r.check()
		r.must(r.stop(id))
		r.wantHealth(id, moss.HealthUnhealthy, 0, 5) // as docker has it
		was := n.Load()
		pass(time.Hour)
		if n.Load() != was {
			t.Error("a stopped container is checked")
		}
		r.start(id)
		r.wantHealth(id, moss.HealthStarting, 0, 0)
		pass(11 * time.Second)
		r.wantHealth(id, moss.HealthHealthy, 0, 1)
		r.must(r.remove(id, true))
		r.checkEmpty()
	})
}

func TestHealthDefaults(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var code atomic.Int64
		n := r.probes(&code)
		none := r.run(healthcheck(moss.Healthcheck{Test: []string{"NONE"}}))
		bare := r.run()
		pass(time.Hour)
		if n.Load() != 0 || r.get(none).Run.Health != nil || r.get(bare).Run.Health != nil {
			t.Errorf("%d probes where there is no check", n.Load())
		}
		code.Store(1000)
		id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD-SHELL", "x"}}))
		pass(89 * time.Second)
		r.wantHealth(id, moss.HealthStarting, 2, 2)
		pass(2 * time.Second)
		r.wantHealth(id, moss.HealthUnhealthy, 3, 3)
		if p := r.health(id).Log[2]; p.ExitCode != -1 || p.Output != "no such program" {
			t.Errorf("a probe that cannot run: %+v", p)
		}
	})
}

func TestHealthOfTheImage(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var code atomic.Int64
		n := r.probes(&code)
		r.images.Add(moss.Image{
			ID: "sha256:2222222222222222222222222222222222222222222222222222222222222222", Names: []string{"docker.io/library/checked:latest"}, OS: "linux", Architecture: "amd64",
			Config: moss.ContainerConfig{Shell: []string{"/bin/ash", "-ec"}, Healthcheck: &moss.Healthcheck{Test: []string{"CMD-SHELL", "is it"}, Interval: time.Second, Retries: 7}},
		})
		of := func(q *moss.CreateRequest) { q.Config.Image = "checked" }
		id := r.run(of, healthcheck(moss.Healthcheck{Interval: 5 * time.Second}))
		if h := r.get(id).Config.Healthcheck; h.Interval != 5*time.Second || h.Retries != 7 || h.Test[1] != "is it" {
			t.Errorf("merged: %+v", h)
		}
		pass(6 * time.Second)
		r.wantHealth(id, moss.HealthHealthy, 0, 1)
		if got := r.events.Actions(string(id))[2]; got != "exec_create: /bin/ash -ec is it" {
			t.Errorf("its event is %q", got)
		}
		r.must(r.remove(id, true))
		r.run(of, healthcheck(moss.Healthcheck{Test: []string{"NONE"}}))
		was := n.Load()
		pass(time.Minute)
		if n.Load() != was {
			t.Error("the image's check cannot be switched off")
		}
	})
}

func TestHealthStartPeriod(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var code atomic.Int64
		code.Store(1)
		n := r.probes(&code)
		h := moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 20 * time.Second, StartPeriod: 30 * time.Second, StartInterval: 2 * time.Second, Retries: 1}
		id := r.run(healthcheck(h))
		pass(29 * time.Second)
		if r.wantHealth(id, moss.HealthStarting, 0, 5); n.Load() != 14 {
			t.Errorf("%d probes in the start period", n.Load())
		}
		pass(2 * time.Second) // a probe that began after it counts
		r.wantHealth(id, moss.HealthUnhealthy, 1, 5)
		other := r.run(healthcheck(h))
		code.Store(0)
		pass(3 * time.Second)
		r.wantHealth(other, moss.HealthHealthy, 0, 1)
		code.Store(1) // the first success ends it, and its interval
		pass(20 * time.Second)
		r.wantHealth(other, moss.HealthUnhealthy, 1, 2)
	})
}

// The start period of a run that an earlier daemon began ends although the clock
// was set back by a day since.
func TestHealthStartPeriodWhenTheClockIsSetBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var code atomic.Int64
		code.Store(1)
		r.probes(&code)
		id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 20 * time.Second, StartPeriod: 30 * time.Second, StartInterval: 2 * time.Second, Retries: 1}))
		r.reboot(false, func() {
			r.edit(id, func(c *moss.Container) { c.Run.StartedAt = c.Run.StartedAt.Add(24 * time.Hour) })
		})
		pass(29 * time.Second)
		if got := r.health(id).Status; got != moss.HealthStarting {
			t.Errorf("in the start period: %s", got)
		}
		pass(30 * time.Second)
		if got := r.health(id).Status; got != moss.HealthUnhealthy {
			t.Errorf("after the start period: %s", got)
		}
	})
}

func TestHealthTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var code atomic.Int64
		code.Store(-1)
		r.probes(&code)
		id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 10 * time.Second, Timeout: 3 * time.Second, Retries: 2}))
		pass(12 * time.Second)
		if ids := r.get(id).Execs; len(ids) != 1 {
			t.Errorf("execs %q while it is checked", ids)
		}
		pass(2 * time.Second)
		r.wantHealth(id, moss.HealthStarting, 1, 1)
		if p := r.health(id).Log[0]; p.ExitCode != -1 || p.Output != "Health check exceeded timeout (3s)" || p.End.Sub(p.Start) != 3*time.Second {
			t.Errorf("logged %+v", p)
		}
		for _, p := range r.runtime.Execs(id) {
			if !p.Ended() {
				t.Error("the probe lives on")
			}
		}
		pass(13 * time.Second)
		r.wantHealth(id, moss.HealthUnhealthy, 2, 2)
		r.check()
	})
}

func TestHealthWhilePaused(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var code atomic.Int64
		n := r.probes(&code)
		id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 10 * time.Second, Retries: 1}))
		pass(11 * time.Second)
		code.Store(-1) // the next one hangs
		pass(10 * time.Second)
		r.must(r.pause(id))
		pass(time.Hour)
		if r.wantHealth(id, moss.HealthHealthy, 0, 1); n.Load() != 2 {
			t.Errorf("%d probes over a pause", n.Load())
		}
		if p := r.runtime.Execs(id); !p[1].Ended() {
			t.Error("the interrupted probe lives on")
		}
		code.Store(0)
		r.must(r.unpause(id))
		pass(11 * time.Second)
		r.wantHealth(id, moss.HealthHealthy, 0, 2)
		if got := r.healthEvents(id); len(got) != 1 {
			t.Errorf("events %q", got)
		}
	})
}

func TestHealthOverARestartOfTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		var code atomic.Int64
		n := r.probes(&code)
		id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 10 * time.Second, Retries: 3}))
		pass(11 * time.Second)
		code.Store(1)
		pass(10 * time.Second)
		code.Store(-1)
		pass(10 * time.Second)
		half := r.runtime.Execs(id)[2]
		r.faults.kill()
		r.halt()
		r.stdio = r.stdio.Restart()
		r.wantHealth(id, moss.HealthHealthy, 1, 2)
		code.Store(1)
		r.boot(false)
		if !half.Ended() {
			t.Error("the half-run probe lives on")
		}
		pass(0) // it is due since a second
		r.wantHealth(id, moss.HealthHealthy, 2, 3)
		pass(11 * time.Second)
		r.wantHealth(id, moss.HealthUnhealthy, 3, 4)
		if n.Load() != 5 {
			t.Errorf("%d probes", n.Load())
		}
		r.check()
	})
}

func TestOnUnhealthy(t *testing.T) {
	h := healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 10 * time.Second, Retries: 2})
	for name, c := range map[string]struct {
		policy moss.RestartMode
		state  moss.State
		code   int
		events []string
	}{
		"":        {moss.RestartAlways, moss.StateRunning, 0, nil},
		"none":    {moss.RestartAlways, moss.StateRunning, 0, nil},
		"stop":    {moss.RestartAlways, moss.StateExited, 143, []string{"kill", "die", "stop"}},
		"kill":    {moss.RestartNo, moss.StateExited, 137, []string{"kill", "die"}},
		"restart": {moss.RestartNo, moss.StateRunning, 0, []string{"kill", "die", "start"}},
		// The policy has its say after a kill, and none after a stop.
		"kill, restarted": {moss.RestartOnFailure, moss.StateRunning, 0, []string{"kill", "die", "start"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				var code atomic.Int64
				code.Store(1)
				r.probes(&code)
				action, _, _ := strings.Cut(name, ",")
				id := r.run(h, onUnhealthy(action), policy(c.policy, 0))
				pass(22 * time.Second)
				r.wantState(id, c.state, c.code)
				got := slices.DeleteFunc(r.events.Actions(string(id)), func(a string) bool { return strings.HasPrefix(a, "exec_") })[2:]
				if want := append([]string{"health_status: unhealthy"}, c.events...); !slices.Equal(got, want) {
					t.Errorf("events %q, want %q", got, want)
				}
				if len(c.events) == 3 && c.events[2] == "start" {
					if r.wantHealth(id, moss.HealthStarting, 0, 0); r.get(id).Run.Restarts != 1 {
						t.Errorf("%d restarts", r.get(id).Run.Restarts)
					}
				}
				r.check()
			})
		})
	}
}

// Whenever the daemon dies, an unhealthy container is started again.
func TestUnhealthyRestartKilled(t *testing.T) {
	for n := 0; ; n++ {
		reached := true
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, false)
			var code atomic.Int64
			code.Store(1)
			r.probes(&code)
			id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 10 * time.Second, Retries: 1}), onUnhealthy("restart"))
			first := r.get(id).Run.PID
			r.faults.arm(-1, n)
			pass(11 * time.Second)
			reached = len(r.faults.disarm()) > n
			code.Store(0)
			r.crash()
			r.boot(false)
			pass(time.Minute)
			if c := r.get(id); c.State != moss.StateRunning || c.Health() != moss.HealthHealthy || c.Run.Again {
				t.Errorf("killed at call %d: it is %s, %s, again %v", n, c.State, c.Health(), c.Run.Again)
			}
			if !reached && r.get(id).Run.PID == first {
				t.Error("it was not started again")
			}
			r.check()
		})
		if !reached || t.Failed() {
			if n < 5 {
				t.Errorf("only %d calls", n)
			}
			return
		}
	}
}

func TestUnhealthyLabel(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		_, err := r.tryCreate(onUnhealthy("reboot"))
		r.wantClass(err, moss.Invalid)
		q := moss.CreateRequest{Config: moss.ContainerConfig{Image: "box", Cmd: []string{"x"}, Labels: map[string]string{moss.UnhealthyLabel: "stop"}}}
		_, warnings, err := r.Containers().Create(t.Context(), q)
		if r.must(err); len(warnings) != 1 || !strings.Contains(warnings[0], "no health check") {
			t.Errorf("warnings %q", warnings)
		}
	})
}

func TestExecsOfAnEndedContainer(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		never, err := r.Execs().Create(t.Context(), string(id), moss.ExecConfig{Cmd: []string{"true"}})
		r.must(err)
		ran, err := r.Execs().Create(t.Context(), string(id), moss.ExecConfig{Cmd: []string{"true"}})
		r.must(err)
		if ids := r.get(id).Execs; len(ids) != 2 {
			t.Errorf("execs %q", ids)
		}
		r.must(r.Execs().Start(t.Context(), string(ran), false, moss.TermSize{}, moss.AttachIO{}, func() {}))
		if ids := r.get(id).Execs; !slices.Equal(ids, []moss.ExecID{never}) {
			t.Errorf("execs %q, want %q", ids, never)
		}
		r.exit(id, 0)
		_, err = r.Execs().Get(string(never))
		r.wantClass(err, moss.NotFound)
		x, err := r.Execs().Get(string(ran))
		if r.must(err); x.ExitCode == nil || *x.ExitCode != 0 {
			t.Errorf("%+v", x)
		}
		r.must(r.remove(id, false))
		_, err = r.Execs().Get(string(ran))
		r.wantClass(err, moss.NotFound)
	})
}

// A daemon that ends leaves the rest of an unhealthy container's time to the next.
func TestUnhealthyWhenTheDaemonEnds(t *testing.T) {
	for _, action := range []string{"restart", "stop"} {
		t.Run(action, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				var code atomic.Int64
				code.Store(1)
				r.probes(&code)
				id := r.run(healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 10 * time.Second, Retries: 1}), onUnhealthy(action))
				r.faults.deafen()
				pass(12 * time.Second)
				r.halt()
				r.stdio = r.stdio.Restart()
				kills := func() (n int) {
					for _, a := range r.events.Actions(string(id)) {
						if a == "kill" {
							n++
						}
					}
					return n
				}
				if kills() != 1 {
					t.Errorf("%d signals before its time is over", kills())
				}
				r.boot(false)
				code.Store(0)
				pass(time.Minute)
				want := map[string]moss.State{"restart": moss.StateRunning, "stop": moss.StateExited}[action]
				if c := r.get(id); c.State != want {
					t.Errorf("it is %s, want %s", c.State, want)
				}
				r.check()
			})
		})
	}
}

// The end of a container takes a probe along, which says nothing of its health.
func TestHealthAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var id moss.ContainerID
		r.runtime.OnExec = func(*moss.Exec, moss.ChildStdio) (*fake.Process, error) {
			p := fake.NewProcess(9000)
			r.units.Exit(id, 0)
			p.Exit(137)
			return p, nil
		}
		id = r.create(healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 10 * time.Second, Retries: 1}), onUnhealthy("restart"))
		r.start(id)
		pass(time.Minute)
		r.wantState(id, moss.StateExited, 0)
		if got := r.healthEvents(id); len(got) > 0 {
			t.Errorf("events %q", got)
		}
		r.check()
	})
}
