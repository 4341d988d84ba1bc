package engine_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestLifeOfAContainer(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"), published)
		r.wantState(id, moss.StateCreated, 0)
		r.check()
		r.start(id)
		r.wantState(id, moss.StateRunning, 0)
		c := r.get("web")
		if c.ID != id || c.Run.PID == 0 || c.Run.StartedAt.IsZero() || c.Network == nil || len(c.Network.Published) != 1 {
			t.Errorf("running: %+v", c)
		}
		r.check()
		r.wantClass(r.Containers().Start(t.Context(), "web"), moss.NotModified)
		time.Sleep(7 * time.Second)
		r.exit(id, 3)
		r.wantState(id, moss.StateExited, 3)
		if c := r.get(id); c.Run.FinishedAt.Sub(c.Run.StartedAt) != 7*time.Second || c.Stopped {
			t.Errorf("exited: %+v", c.Run)
		}
		r.check()
		r.start(id) // once more
		r.exit(id, 0)
		r.must(r.remove(id, false))
		r.checkEmpty()
		r.wantActions(id, "create", "publish", "start", "die", "unpublish", "publish", "start", "die", "unpublish", "destroy")
		die := r.events.Of(string(id))[3]
		if die.Attributes["exitCode"] != "3" || die.Attributes["execDuration"] != "7" || die.Attributes["name"] != "web" || die.Attributes["image"] != "box" {
			t.Errorf("%v", die.Attributes)
		}
	})
}

func TestEveryStepOfAStartCanFail(t *testing.T) {
	for _, mode := range []string{"plain", "auto-remove", "after a run"} {
		t.Run(mode, func(t *testing.T) {
			for step := 0; ; step++ {
				if !failStart(t, mode, step) {
					if step < 9 {
						t.Fatalf("a start has %d steps only", step)
					}
					return
				}
			}
		})
	}
}

// failStart makes one call of a start fail; false when there are fewer.
func failStart(t *testing.T, mode string, step int) (failed bool) {
	bubble(t, func(t *testing.T, r *rig) {
		opts := []option{named("web"), published}
		if mode == "auto-remove" {
			opts = append(opts, autoRemove)
		}
		id := r.create(opts...)
		state := moss.StateCreated
		if mode == "after a run" {
			r.start(id)
			r.exit(id, 3)
			state = moss.StateExited
		}
		r.faults.arm(step, -1)
		err := r.Containers().Start(t.Context(), "web")
		calls := r.faults.disarm()
		if len(calls) <= step {
			r.must(err)
			return
		}
		failed = true
		what := calls[step]
		if err == nil || !strings.Contains(err.Error(), errInjected.Error()) {
			t.Errorf("%s failed, and start says %v", what, err)
		}
		synctest.Wait()
		if mode == "auto-remove" {
			if !r.gone(id) {
				t.Errorf("after a failing %s it is still there", what)
			}
			r.checkEmpty()
			return
		}
		c := r.get(id)
		if c.State != state || c.Run.ExitCode != 128 || !strings.Contains(c.Run.Error, errInjected.Error()) {
			t.Errorf("after a failing %s it is %s, %d, %q", what, c.State, c.Run.ExitCode, c.Run.Error)
		}
		for _, w := range r.wrongs() {
			t.Errorf("after a failing %s %s", what, w)
		}
		if slices.Contains(r.events.Actions(string(id)), "start") && mode == "plain" {
			t.Errorf("after a failing %s there is an event of a start", what)
		}
		r.start(id)
		r.check()
		r.exit(id, 0)
		r.must(r.remove(id, false))
		r.checkEmpty()
	})
	return failed
}

func TestACommandThatCannotRun(t *testing.T) {
	for command, code := range map[string]int{"nope": 127, "/nope": 127, "/etc/passwd": 126} {
		bubble(t, func(t *testing.T, r *rig) {
			r.units.OnStart = func(s moss.UnitSpec) error { return r.runtime.Create(s.ID) }
			id := r.create(func(q *moss.CreateRequest) { q.Config.Cmd = []string{command} })
			err := r.Containers().Start(t.Context(), string(id))
			r.wantClass(err, moss.Invalid)
			r.wantState(id, moss.StateCreated, code)
			if c := r.get(id); !strings.Contains(c.Run.Error, command) {
				t.Errorf("error %q", c.Run.Error)
			}
			r.check()
		})
	}
}

func TestStartWithAFullDisk(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"), published)
		r.records.Fail("Put", syscall.ENOSPC)
		if err := r.Containers().Start(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("start says %v", err)
		}
		r.records.Fail("Put", nil)
		synctest.Wait()
		r.wantState(id, moss.StateCreated, 128)
		r.check()
		if _, err := r.tryCreate(named("web")); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("its name is free: %v", err)
		}
	})
}

func TestCreateUnwinds(t *testing.T) {
	for step := 0; ; step++ {
		more := false
		bubble(t, func(t *testing.T, r *rig) {
			r.faults.arm(step, -1)
			_, err := r.tryCreate(named("web"))
			calls := r.faults.disarm()
			if len(calls) <= step {
				r.must(err)
				return
			}
			more = true
			if err == nil {
				t.Errorf("%s failed and create did not", calls[step])
			}
			r.checkEmpty()
			r.create(named("web"))
		})
		if !more {
			return
		}
	}
}

func TestAFullDiskStopsNobodyFromStopping(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartAlways, 0))
		r.records.Fail("Put", syscall.ENOSPC)
		r.must(r.stop(id))
		settle()
		r.wantState(id, moss.StateExited, 128+15)
		if !r.get(id).Stopped {
			t.Error("nobody knows that it was stopped")
		}
	})
}

func TestHowARunEnds(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		r.must(r.Signals().Kill(t.Context(), string(id), syscall.SIGUSR1))
		synctest.Wait()
		r.wantState(id, moss.StateExited, 128+10)
		r.start(id)
		r.units.OOM(id)
		synctest.Wait()
		r.wantState(id, moss.StateExited, 137)
		if !r.get(id).Run.OOMKilled {
			t.Error("not seen as killed for memory")
		}
		r.start(id)
		if c := r.get(id); c.Run.OOMKilled || c.Run.ExitCode != 0 {
			t.Errorf("the new run has the old one's end: %+v", c.Run)
		}
		r.units.Stop(id) // systemctl stop
		synctest.Wait()
		r.wantState(id, moss.StateExited, 143)
		if !r.get(id).Stopped {
			t.Error("systemctl stop is the user's word too")
		}
		r.check()
		r.wantActions(id, "create", "start", "kill", "die", "start", "oom", "die", "start", "die")
		r.wantClass(r.Signals().Kill(t.Context(), string(id), syscall.SIGKILL), moss.Conflict)
	})
}

func TestEveryStepOfAnEndCanFail(t *testing.T) {
	for step := range 8 {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			r.faults.arm(step, -1)
			r.exit(id, 3)
			calls := r.faults.disarm()
			if len(calls) <= step {
				return
			}
			r.wantState(id, moss.StateExited, 3)
			if c := r.get(id); !strings.Contains(c.Run.Error, errInjected.Error()) && calls[step] != "Records.Put" {
				t.Errorf("%s failed, kept is %q", calls[step], c.Run.Error)
			}
			// What could not be taken down then is, at the latest, with the container.
			r.must(r.remove(id, false))
			for _, w := range r.wrongs() {
				t.Errorf("after a failing %s %s", calls[step], w)
			}
		})
	}
}

func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		r.must(r.stop(id))
		r.wantState(id, moss.StateExited, 143)
		r.wantClass(r.stop(id), moss.NotModified)
		r.wantActions(id, "create", "start", "kill", "die", "stop")

		r.units.Ignore = func(moss.ContainerID, syscall.Signal) bool { return true }
		r.start(id)
		begin := time.Now()
		r.must(r.stop(id))
		r.wantState(id, moss.StateExited, 137)
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("it took %s", d)
		}
		r.start(id)
		begin, wait := time.Now(), 3*time.Second
		r.must(r.Containers().Stop(t.Context(), string(id), moss.StopOptions{Timeout: &wait, Signal: "INT"}))
		if d := time.Since(begin); d != wait {
			t.Errorf("it took %s", d)
		}
		var signals []string
		for _, e := range r.events.Of(string(id)) {
			if e.Action == "kill" {
				signals = append(signals, e.Attributes["signal"])
			}
		}
		if want := []string{"15", "15", "9", "2", "9"}; !slices.Equal(signals, want) {
			t.Errorf("signals %q, want %q", signals, want)
		}
		r.wantClass(r.Containers().Stop(t.Context(), string(id), moss.StopOptions{Signal: "NOSUCH"}), moss.NotModified)
		r.start(id)
		r.wantClass(r.Containers().Stop(t.Context(), string(id), moss.StopOptions{Signal: "NOSUCH"}), moss.Invalid)
		r.wantState(id, moss.StateRunning, 0)
		r.check()
	})
}

func TestStopOfWhatTheKernelHolds(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run()
		r.faults.deafen()
		begin := time.Now()
		r.wantClass(r.stop(id), moss.Internal)
		if d := time.Since(begin); d != 20*time.Second {
			t.Errorf("it took %s", d)
		}
		r.wantClass(r.remove(id, true), moss.Internal)
		r.wantClass(r.Signals().Kill(t.Context(), string(id), syscall.SIGKILL), moss.Internal)
		r.wantState(id, moss.StateRunning, 0)
		if a := r.events.Actions(string(id)); slices.Contains(a, "stop") {
			t.Errorf("events %q", a)
		}
		r.exit(id, 137)
		r.wantState(id, moss.StateExited, 137)
		r.check()
	})
}

func TestStopForEver(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.units.Ignore = func(moss.ContainerID, syscall.Signal) bool { return true }
		id := r.run()
		done := make(chan error, 1)
		wait := -time.Second
		go func() {
			done <- r.Containers().Stop(t.Context(), string(id), moss.StopOptions{Timeout: &wait})
		}()
		time.Sleep(24 * time.Hour)
		r.wantState(id, moss.StateRunning, 0)
		r.exit(id, 4)
		r.must(<-done)
		r.wantState(id, moss.StateExited, 4)
	})
}

func TestStopWhileOthersKill(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.units.Ignore = func(moss.ContainerID, syscall.Signal) bool { return true }
		id := r.run(policy(moss.RestartAlways, 0))
		done := make(chan error, 3)
		for range 2 {
			go func() { done <- r.stop(id) }()
		}
		go func() {
			time.Sleep(5 * time.Second)
			done <- r.Signals().Kill(t.Context(), string(id), syscall.SIGKILL)
		}()
		begin := time.Now()
		for range 3 {
			r.must(<-done)
		}
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("it took %s", d)
		}
		settle()
		r.wantState(id, moss.StateExited, 137)
		r.check()
	})
}

// A stop that comes while the container is ending by itself must neither hang
// nor be forgotten by the restart policy.
func TestStopAtTheVeryEnd(t *testing.T) {
	for _, mode := range []moss.RestartMode{moss.RestartNo, moss.RestartAlways} {
		for range 50 {
			bubble(t, func(t *testing.T, r *rig) {
				id := r.run(policy(mode, 0))
				begin := time.Now()
				go r.units.Exit(id, 3)
				if err := r.stop(id); err != nil && moss.ClassOf(err) != moss.NotModified {
					t.Error(err)
				}
				if d := time.Since(begin); d > time.Second {
					t.Fatalf("the stop took %s", d)
				}
				settle()
				if c := r.get(id); c.State != moss.StateExited {
					t.Fatalf("it is %s", c.State)
				}
				r.check()
			})
		}
	}
}

func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(autoRemove)
		pid := r.get(id).Run.PID
		for range 20 {
			r.must(r.Containers().Restart(t.Context(), string(id), moss.StopOptions{}))
		}
		synctest.Wait()
		r.wantState(id, moss.StateRunning, 0)
		if c := r.get(id); c.Run.PID == pid || c.Run.Restarts != 0 || c.Stopped {
			t.Errorf("%+v", c.Run)
		}
		r.check()
		if got := r.events.Actions(string(id))[2:7]; !slices.Equal(got, []string{"kill", "die", "stop", "start", "restart"}) {
			t.Errorf("events %q", got)
		}
		r.exit(id, 0)
		r.checkEmpty()
	})
}

func TestRestartThatCannotStart(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(autoRemove)
		r.rootfs.Fail("Mount", errInjected)
		if err := r.Containers().Restart(t.Context(), string(id), moss.StopOptions{}); err == nil {
			t.Error("it started")
		}
		synctest.Wait()
		r.checkEmpty()
	})
}
