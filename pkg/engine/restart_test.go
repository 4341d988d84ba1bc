package engine_test

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// wantRestart wants the policy to start a container after exactly this long.
func (r *rig) wantRestart(id moss.ContainerID, after time.Duration) {
	r.t.Helper()
	time.Sleep(after - time.Nanosecond)
	synctest.Wait()
	if c := r.get(id); c.State != moss.StateRestarting {
		r.t.Fatalf("just before %s it is %s", after, c.State)
	}
	_, err := r.Execs().Create(r.t.Context(), string(id), moss.ExecConfig{Cmd: []string{"x"}})
	if r.wantClass(err, moss.Conflict); !strings.Contains(err.Error(), "is restarting, wait until") {
		r.t.Errorf("an exec meanwhile: %v", err)
	}
	time.Sleep(time.Nanosecond)
	synctest.Wait()
	if c := r.get(id); c.State != moss.StateRunning {
		r.t.Fatalf("after %s it is %s (%s)", after, c.State, c.Run.Error)
	}
}

func TestBackOffGrowsAndStartsAnew(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartAlways, 0))
		wait := 100 * time.Millisecond
		for n := range 12 {
			r.exit(id, n%2)
			r.check()
			r.wantRestart(id, wait)
			if c := r.get(id); c.Run.Restarts != n+1 {
				t.Errorf("%d restarts are counted, want %d", c.Run.Restarts, n+1)
			}
			wait = min(2*wait, time.Minute)
		}
		time.Sleep(10 * time.Second)
		r.exit(id, 1)
		r.wantRestart(id, 100*time.Millisecond)
		time.Sleep(10*time.Second - time.Nanosecond) // not long enough
		r.exit(id, 1)
		r.wantRestart(id, 200*time.Millisecond)
		r.check()
	})
}

func TestOnFailure(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartOnFailure, 2))
		for range 2 {
			r.exit(id, 5)
			settle()
			r.wantState(id, moss.StateRunning, 0)
		}
		r.exit(id, 5)
		r.wantState(id, moss.StateExited, 5)
		settle()
		r.wantState(id, moss.StateExited, 5)
		r.start(id) // counts anew
		r.exit(id, 5)
		r.wantState(id, moss.StateRestarting, 5)
		settle()
		r.exit(id, 0)
		settle()
		r.wantState(id, moss.StateExited, 0)
		r.check()
	})
}

func TestARestartThatFailsIsTheLast(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartAlways, 0))
		r.rootfs.Fail("Mount", errInjected)
		r.exit(id, 1)
		settle()
		r.wantState(id, moss.StateExited, 128)
		r.check()
	})
}

func TestCallingARestartOff(t *testing.T) {
	ref := func(r *rig) string {
		list, _ := r.Views().List(moss.ContainerFilter{All: true})
		return string(list[0].ID)
	}
	for name, call := range map[string]func(r *rig) error{
		"stop": func(r *rig) error { return r.Containers().Stop(r.t.Context(), ref(r), moss.StopOptions{}) },
		"kill": func(r *rig) error { return r.Signals().Kill(r.t.Context(), ref(r), syscall.SIGKILL) },
		"term": func(r *rig) error { return r.Signals().Kill(r.t.Context(), ref(r), syscall.SIGTERM) },
		"rm":   func(r *rig) error { return r.Containers().Remove(r.t.Context(), ref(r), true) },
	} {
		for _, when := range []string{"while it waits", "while it runs"} {
			t.Run(name+" "+when, func(t *testing.T) {
				bubble(t, func(t *testing.T, r *rig) {
					id := r.run(policy(moss.RestartUnlessStopped, 0))
					if when == "while it waits" {
						r.exit(id, 1)
						r.wantState(id, moss.StateRestarting, 1)
					}
					r.must(call(r))
					settle()
					if name == "rm" {
						r.checkEmpty()
						return
					}
					if c := r.get(id); c.State != moss.StateExited || !c.Stopped {
						t.Errorf("it is %s, stopped %v", c.State, c.Stopped)
					}
					r.check()
					// It does not keep a later run from being restarted.
					r.start(id)
					r.exit(id, 1)
					r.wantRestart(id, 100*time.Millisecond)
				})
			})
		}
	}
}

func TestASignalThatIsSurvivedCallsNothingOff(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartAlways, 0))
		r.must(r.Signals().Kill(t.Context(), string(id), syscall.SIGHUP))
		settle()
		r.wantState(id, moss.StateRunning, 0)
		if c := r.get(id); c.Run.Restarts != 1 {
			t.Errorf("%d restarts", c.Run.Restarts)
		}
	})
}

func TestGoingDownWithTheHolder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartUnlessStopped, 0))
		r.Quiesce()
		r.going.Store(true)
		slow := r.run(named("slow"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		r.units.Stop(id)
		if left := r.AwaitIdle(ctx); !slices.Equal(left, []string{"slow"}) {
			t.Errorf("not ended are %q", left)
		}
		cancel()
		r.units.Stop(slow)
		if left := r.AwaitIdle(t.Context()); left != nil {
			t.Errorf("not ended are %q", left)
		}
		settle()
		if c := r.get(id); c.State.Alive() || c.Stopped {
			t.Errorf("%s, stopped %v", c.State, c.Stopped)
		}
		r.check()
		r.going.Store(false)
		r.halt()
		r.stdio = r.stdio.Restart()
		r.boot(true)
		synctest.Wait()
		r.wantState(id, moss.StateRunning, 0)
		r.check()
	})
}

func TestAUserStartsWhatWaitsForARestart(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartAlways, 0))
		r.exit(id, 1)
		r.start(id)
		pid := r.get(id).Run.PID
		settle()
		if c := r.get(id); c.Run.PID != pid || c.Run.Restarts != 0 {
			t.Errorf("it was started again: %+v", c.Run)
		}
		r.check()
	})
}

func TestAUsersRestartBeginsTheBackOffAnew(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartAlways, 0))
		for _, wait := range []time.Duration{100, 200, 400} {
			r.exit(id, 1)
			r.wantRestart(id, wait*time.Millisecond)
		}
		r.must(r.Containers().Restart(t.Context(), string(id), moss.StopOptions{}))
		synctest.Wait()
		r.exit(id, 1)
		r.wantRestart(id, 100*time.Millisecond)
	})
}

// The policy's start must not be the one that an earlier end had asked for.
func TestOldRestartsAreForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(policy(moss.RestartAlways, 0))
		for range 5 {
			r.exit(id, 1)
			settle()
		}
		r.exit(id, 1) // waits for 100 ms, as it ran long
		time.Sleep(50 * time.Millisecond)
		r.start(id)
		time.Sleep(10 * time.Millisecond)
		r.exit(id, 1)
		r.wantRestart(id, 100*time.Millisecond)
	})
}
