package engine_test

import (
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func (r *rig) pause(id moss.ContainerID) error {
	return r.Containers().Pause(r.t.Context(), string(id))
}

func (r *rig) unpause(id moss.ContainerID) error {
	return r.Containers().Unpause(r.t.Context(), string(id))
}

func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"))
		r.wantClass(r.pause(id), moss.Conflict)
		r.wantClass(r.unpause(id), moss.Conflict)
		r.start(id)
		r.wantClass(r.unpause(id), moss.Conflict)
		before, err := r.Execs().Create(t.Context(), "web", moss.ExecConfig{Cmd: []string{"x"}})
		r.must(err)
		_, err = r.Execs().Startable(string(before))
		r.must(err)
		r.must(r.pause(id))
		_, err = r.Execs().Startable(string(before))
		if r.wantClass(err, moss.Conflict); err == nil || err.Error() != "Container "+string(id)+" is paused, unpause the container before exec" {
			t.Errorf("an exec of before the pause: %v", err)
		}
		r.wantState(id, moss.StatePaused, 0)
		r.check()
		r.wantClass(r.pause(id), moss.Conflict)
		r.wantClass(r.Containers().Start(t.Context(), "web"), moss.Conflict)
		r.wantClass(r.remove(id, false), moss.Conflict)
		_, err = r.Execs().Create(t.Context(), "web", moss.ExecConfig{Cmd: []string{"x"}})
		r.wantClass(err, moss.Conflict)
		r.wantClass(r.Signals().Attach(t.Context(), "web", moss.AttachIO{}, false, true, func() {}), moss.Conflict)
		r.must(r.Signals().Kill(t.Context(), "web", syscall.SIGHUP)) // comes when it goes on
		synctest.Wait()
		r.wantState(id, moss.StatePaused, 0)
		r.must(r.unpause(id))
		synctest.Wait()
		r.wantState(id, moss.StateExited, 129)
		r.wantActions(id, "create", "start", "exec_create: x", "pause", "kill", "unpause", "die")
		r.check()
	})
}

func TestEndOfAPausedContainer(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(t *testing.T, r *rig, id moss.ContainerID) error
		code int
		more []string
	}{
		"stop": {func(_ *testing.T, r *rig, id moss.ContainerID) error { return r.stop(id) }, 143, []string{"kill", "unpause", "die", "stop"}},
		"kill": {func(t *testing.T, r *rig, id moss.ContainerID) error {
			return r.Signals().Kill(t.Context(), string(id), 9)
		}, 137, []string{"kill", "die"}},
		"kill by TERM": {func(t *testing.T, r *rig, id moss.ContainerID) error {
			return r.Signals().Kill(t.Context(), string(id), 15)
		}, 143, []string{"kill", "unpause", "die"}},
		"its own end": {func(_ *testing.T, r *rig, id moss.ContainerID) error { r.units.Exit(id, 7); return nil }, 7, []string{"die"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				id, began := r.run(), time.Now()
				r.must(r.pause(id))
				r.must(c.end(t, r, id))
				synctest.Wait()
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %s", took)
				}
				r.wantState(id, moss.StateExited, c.code)
				r.wantActions(id, append([]string{"create", "start", "pause"}, c.more...)...)
				r.start(id)
				r.wantState(id, moss.StateRunning, 0)
				r.check()
				r.must(r.pause(id))
				r.must(r.remove(id, true))
				r.checkEmpty()
			})
		})
	}
}

func TestPauseWhereCgroupsCannot(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(named("web"))
		r.units.OnFreeze = func(moss.ContainerID, bool) error { return moss.Errorf(moss.NotImplemented, "no freezer") }
		err := r.pause(id)
		if r.wantClass(err, moss.NotImplemented); !strings.Contains(err.Error(), `cannot pause "web": `) || strings.Contains(err.Error(), "--pause") {
			t.Error(err)
		}
		r.wantState(id, moss.StateRunning, 0)
		r.check()
	})
}

func TestPauseAndCommit(t *testing.T) {
	begin := func(r *rig, id moss.ContainerID) chan error {
		r.lag = time.Hour
		done := make(chan error, 1)
		go func() {
			_, err := r.commit(moss.CommitRequest{Container: string(id), Pause: true})
			done <- err
		}()
		synctest.Wait()
		return done
	}
	t.Run("paused meanwhile", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			done := begin(r, id)
			r.must(r.pause(id))
			r.must(<-done)
			r.wantState(id, moss.StatePaused, 0)
			r.check()
		})
	})
	t.Run("unpaused meanwhile", func(t *testing.T) {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			r.must(r.pause(id))
			done := begin(r, id)
			r.must(r.unpause(id))
			r.wantState(id, moss.StateRunning, 0)
			if !r.frozen(id) {
				t.Error("it goes on while its files are read")
			}
			r.must(<-done)
			r.check()
		})
	})
}

func TestEveryStepOfAPauseCanFail(t *testing.T) {
	for step := 0; ; step++ {
		more := false
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			r.faults.arm(step, -1)
			err := r.pause(id)
			if more = len(r.faults.disarm()) > step; !more {
				r.must(err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), errInjected.Error()) {
				t.Errorf("step %d: %v", step, err)
			}
			settle()
			r.wantState(id, moss.StateRunning, 0)
			r.check()
			r.must(r.pause(id))
			r.faults.arm(0, -1)
			if err := r.unpause(id); err == nil || !strings.Contains(err.Error(), "cannot unpause") {
				t.Error("the freezer fails, and unpause says", err)
			}
			r.faults.disarm()
			r.wantState(id, moss.StatePaused, 0)
			r.check()
			r.must(r.unpause(id))
			r.check()
		})
		if !more {
			if step < 3 {
				t.Errorf("a pause has %d steps", step)
			}
			return
		}
	}
}

func TestADaemonKilledWhilePausing(t *testing.T) {
	for _, verb := range []string{"pause", "unpause", "stop"} {
		for at := 0; ; at++ {
			more := false
			bubble(t, func(t *testing.T, r *rig) {
				id := r.run(named("web"))
				do := map[string]func() error{
					"pause": func() error { return r.pause(id) }, "unpause": func() error { return r.unpause(id) }, "stop": func() error { return r.stop(id) },
				}[verb]
				if verb != "pause" {
					r.must(r.pause(id))
				}
				r.faults.arm(-1, at)
				ended := make(chan error, 1)
				go func() { ended <- do() }()
				settle()
				r.crash()
				done := <-ended
				more = len(r.faults.disarm()) > at
				r.boot(false)
				settle()
				r.check()
				if state := r.get(id).State; done == nil && (verb == "pause") != (state == moss.StatePaused) {
					t.Errorf("%s, killed at call %d: it is %s", verb, at, state)
				}
				if r.get(id).State == moss.StatePaused {
					r.must(r.unpause(id))
				}
				r.must(r.remove(id, true))
				r.checkEmpty()
			})
			if !more {
				break
			}
		}
	}
}
