package engine_test

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// cut kills the daemon before the at-th call of act, boots the next after
// between, and says whether act has that many calls.
func (r *rig) cut(at int, act, between func()) (reached bool) {
	r.faults.arm(-1, at)
	done := make(chan struct{})
	go func() { defer close(done); act() }()
	time.Sleep(time.Hour)
	<-done
	reached = len(r.faults.disarm()) > at
	r.reboot(false, between)
	settle()
	return reached
}

// everywhere kills the daemon before each of the calls of a scenario.
func everywhere(t *testing.T, least int, scenario func(t *testing.T, r *rig, at int) (reached bool)) {
	t.Helper()
	for at, reached := 0, true; reached && !t.Failed(); at++ {
		bubble(t, func(t *testing.T, r *rig) { reached = scenario(t, r, at) })
		if !reached && at < least {
			t.Errorf("only %d calls", at)
		}
	}
}

// Wherever the daemon dies in a restart, the container runs with the next one.
func TestARestartIsFinishedByTheNextDaemon(t *testing.T) {
	stubborn := func(_ moss.ContainerID, sig syscall.Signal) bool { return sig != syscall.SIGKILL }
	for name, c := range map[string]struct {
		opts    []option
		prepare func(r *rig, id moss.ContainerID)
		between func(r *rig, id moss.ContainerID)
	}{
		"plain":               {},
		"with a policy":       {opts: []option{policy(moss.RestartOnFailure, 1)}},
		"to be removed":       {opts: []option{autoRemove}},
		"heeds no signal":     {prepare: func(r *rig, _ moss.ContainerID) { r.units.Ignore = stubborn }},
		"paused":              {prepare: func(r *rig, id moss.ContainerID) { r.must(r.Containers().Pause(r.t.Context(), string(id))) }},
		"it ends meanwhile":   {prepare: func(r *rig, _ moss.ContainerID) { r.units.Ignore = stubborn }, between: func(r *rig, id moss.ContainerID) { r.units.Exit(id, 0) }},
		"its unit goes":       {between: func(r *rig, id moss.ContainerID) { r.must(r.units.Collect(r.t.Context(), id)) }},
		"waits for a restart": {opts: []option{policy(moss.RestartAlways, 0)}, prepare: func(r *rig, id moss.ContainerID) { r.exit(id, 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, 8, func(t *testing.T, r *rig, at int) bool {
				id := r.run(append(c.opts, named("web"), published)...)
				first := r.get(id).Run.PID
				if c.prepare != nil {
					c.prepare(r, id)
				}
				reached := r.cut(at, func() { _ = r.Containers().Restart(context.Background(), string(id), moss.StopOptions{}) }, func() {
					if c.between != nil && at > 0 && r.onDisk(id).Run.PID == first {
						c.between(r, id)
					}
				})
				if r.gone(id) {
					t.Fatalf("killed at call %d: it is gone", at)
				}
				got := r.get(id)
				if at == 0 && got.State == moss.StatePaused && got.Run.PID == first {
					return reached // nobody has heard of the restart
				}
				if got.State != moss.StateRunning || at > 0 && got.Run.PID == first {
					t.Errorf("killed at call %d: it is %s, the process is the first one: %v", at, got.State, got.Run.PID == first)
				}
				r.check()
				r.units.Ignore = nil
				r.must(r.stop(id))
				settle()
				if len(c.opts) > 0 && r.gone(id) {
					return reached
				}
				r.wantStopped(id)
				r.reboot(false, nil)
				r.wantStopped(id) // nothing of the restart is left
				return reached
			})
		})
	}
}

// onDisk is a container's record as the next daemon finds it.
func (r *rig) onDisk(id moss.ContainerID) *moss.Container {
	r.t.Helper()
	all, _, err := r.records.Load()
	r.must(err)
	for _, rec := range all {
		if rec.ID == id {
			return rec
		}
	}
	r.t.Fatal("no record")
	return nil
}

func (r *rig) wantStopped(id moss.ContainerID) {
	r.t.Helper()
	if c := r.get(id); c.State != moss.StateExited || c.Intent != moss.IntentNone || !c.Stopped {
		r.t.Errorf("it is %s, intent %q, stopped %v", c.State, c.Intent, c.Stopped)
	}
}

// A stop or a kill that comes while a restart waits for the end is the last word, for
// the client of the restart and for the next daemon.
func TestAStopCallsARestartOff(t *testing.T) {
	for name, call := range map[string]func(r *rig, id moss.ContainerID) error{
		"stop": func(r *rig, id moss.ContainerID) error { return r.stop(id) },
		"kill": func(r *rig, id moss.ContainerID) error {
			return r.Signals().Kill(context.Background(), string(id), syscall.SIGKILL)
		},
	} {
		for _, crash := range []bool{false, true} {
			for _, opts := range [][]option{{policy(moss.RestartAlways, 0)}, {autoRemove}} {
				t.Run(name, func(t *testing.T) {
					bubble(t, func(t *testing.T, r *rig) {
						id := r.run(append(opts, named("web"))...)
						r.units.Ignore = func(_ moss.ContainerID, sig syscall.Signal) bool { return sig != syscall.SIGKILL }
						hour := time.Hour
						restarted, stopped := make(chan error, 1), make(chan error, 1)
						go func() {
							restarted <- r.Containers().Restart(context.Background(), string(id), moss.StopOptions{Timeout: &hour})
						}()
						time.Sleep(time.Minute)
						if crash {
							go func() { stopped <- call(r, id) }()
							synctest.Wait() // it has been noted
							r.reboot(false, func() { r.units.Exit(id, 137) })
							settle()
							time.Sleep(2 * time.Hour)
							<-restarted
							<-stopped
						} else {
							r.must(call(r, id))
							r.wantClass(<-restarted, moss.Conflict)
						}
						settle()
						if len(opts) > 0 && r.gone(id) {
							r.checkEmpty()
							return
						}
						r.wantStopped(id)
						r.check()
					})
				})
			}
		}
	}
}

// A start that is due, and waits for another container, can be called off.
func TestAStopCallsADueStartOff(t *testing.T) {
	labels := func(service, after string) option {
		return func(q *moss.CreateRequest) {
			q.Config.Labels = map[string]string{"com.docker.compose.project": "p", "com.docker.compose.service": service, "com.docker.compose.depends_on": after}
		}
	}
	bubble(t, func(t *testing.T, r *rig) {
		r.run(named("base"), labels("base", ""), healthcheck(moss.Healthcheck{Test: []string{"CMD", "x"}, Interval: 1000 * time.Hour}))
		after := labels("web", "base:service_healthy:true")
		id, once, goes := r.run(named("web"), after), r.run(named("once"), after, autoRemove), r.run(named("goes"), after)
		r.reboot(false, func() {
			for _, c := range []moss.ContainerID{id, once, goes} {
				r.units.Exit(c, 0)
				r.edit(c, func(c *moss.Container) { c.Stopped, c.Intent = true, moss.IntentRestart })
			}
		})
		for _, c := range []moss.ContainerID{id, once, goes} {
			if got := r.get(c); got.State != moss.StateExited || got.Intent != moss.IntentStart {
				t.Errorf("%s is %s, intent %q: does it wait?", got.Name, got.State, got.Intent)
			}
		}
		r.must(r.stop(id))
		r.must(r.Signals().Kill(t.Context(), string(once), syscall.SIGKILL))
		r.must(r.remove(goes, true))
		settle()
		r.wantStopped(id)
		if !r.gone(once) || !r.gone(goes) {
			t.Error("what was to be removed is still there")
		}
		r.check()
		r.reboot(true, nil) // nor does the next boot start it
		settle()
		r.wantStopped(id)
	})
}

// A restart whose stop fails is told so, and is not made up for later.
func TestARestartThatFailsLeavesNoIntent(t *testing.T) {
	for _, rm := range []bool{false, true} {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run(named("web"))
			r.faults.deafen()
			var err error
			if rm {
				err = r.VolumeService().RemoveContainer(t.Context(), string(id), true)
			} else {
				err = r.Containers().Restart(t.Context(), string(id), moss.StopOptions{})
			}
			r.wantClass(err, moss.Internal)
			r.exit(id, 0)
			r.wantStopped(id)
			r.reboot(false, nil)
			settle()
			r.wantStopped(id)
			if r.get(id).RemoveVolumes {
				t.Error("its volumes would go with the next removal")
			}
			r.check()
		})
	}
}

// Wherever the daemon dies in a removal by force, the next one completes it.
func TestARemovalByForceIsFinishedByTheNextDaemon(t *testing.T) {
	for name, c := range map[string]struct {
		opts    []option
		prepare func(r *rig, id moss.ContainerID)
	}{
		"plain":         {},
		"with a policy": {opts: []option{policy(moss.RestartAlways, 0)}},
		"to be removed": {opts: []option{autoRemove}},
		"paused":        {prepare: func(r *rig, id moss.ContainerID) { r.must(r.Containers().Pause(r.t.Context(), string(id))) }},
		"being restarted": {prepare: func(r *rig, id moss.ContainerID) {
			r.units.Ignore = func(_ moss.ContainerID, sig syscall.Signal) bool { return sig != syscall.SIGKILL }
			hour := time.Hour
			go func() {
				_ = r.Containers().Restart(context.Background(), string(id), moss.StopOptions{Timeout: &hour})
			}()
			time.Sleep(time.Second)
		}},
	} {
		for _, ends := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				everywhere(t, 8, func(t *testing.T, r *rig, at int) bool {
					id := r.run(append(c.opts, named("web"), published)...)
					if c.prepare != nil {
						c.prepare(r, id)
					}
					reached := r.cut(at, func() { _ = r.VolumeService().RemoveContainer(context.Background(), string(id), true) }, func() {
						if ends && at > 0 {
							r.units.Exit(id, 137)
						}
					})
					if at > 0 && !r.gone(id) {
						t.Errorf("killed at call %d: it is %s, intent %q", at, r.get(id).State, r.get(id).Intent)
					}
					if at > 0 {
						r.checkEmpty()
					}
					r.check()
					return reached
				})
			})
		}
	}
}
