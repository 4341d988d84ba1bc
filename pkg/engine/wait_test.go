package engine_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

type waited struct {
	code    int
	message string
	err     error
}

func (r *rig) wait(id moss.ContainerID, cond moss.WaitCondition) <-chan waited {
	done, ready := make(chan waited, 1), make(chan struct{})
	go func() {
		code, message, err := r.Views().Wait(r.t.Context(), string(id), cond, func() { close(ready) })
		done <- waited{code, message, err}
	}()
	<-ready
	synctest.Wait()
	return done
}

func (r *rig) wantWaited(done <-chan waited, want waited) {
	r.t.Helper()
	synctest.Wait()
	select {
	case got := <-done:
		if got != want {
			r.t.Errorf("waited for %+v, want %+v", got, want)
		}
	default:
		r.t.Error("it still waits")
	}
}

func (r *rig) wantWaiting(done <-chan waited) {
	r.t.Helper()
	synctest.Wait()
	select {
	case got := <-done:
		r.t.Errorf("it does not wait: %+v", got)
	default:
	}
}

func TestWait(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(policy(moss.RestartOnFailure, 1))
		r.wantWaited(r.wait(id, moss.WaitNotRunning), waited{})
		next, removed := r.wait(id, moss.WaitNextExit), r.wait(id, moss.WaitRemoved)
		r.start(id)
		over := r.wait(id, "")
		r.wantWaiting(next)
		r.exit(id, 7)
		r.wantWaited(next, waited{code: 7})
		r.wantWaiting(over) // the policy starts it again
		settle()
		next = r.wait(id, moss.WaitNextExit)
		r.exit(id, 8)
		r.wantWaited(next, waited{code: 8})
		r.wantWaited(over, waited{code: 8})
		r.wantWaited(r.wait(id, moss.WaitNotRunning), waited{code: 8})
		next = r.wait(id, moss.WaitNextExit)
		r.wantWaiting(removed)
		r.must(r.remove(id, false))
		r.wantWaited(removed, waited{code: 8})
		r.wantWaited(next, waited{code: 8})

		if _, _, err := r.Views().Wait(t.Context(), "nobody", "", func() {}); moss.ClassOf(err) != moss.NotFound {
			t.Error(err)
		}
		id = r.run()
		if _, _, err := r.Views().Wait(t.Context(), string(id), "never", func() {}); moss.ClassOf(err) != moss.Invalid {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := r.Views().Wait(ctx, string(id), "", func() {}); err == nil {
			t.Error("it returned although the client went away")
		}
	})
}

func TestWaitForARemovalThatFails(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(autoRemove)
		done := r.wait(id, moss.WaitRemoved)
		r.rootfs.Fail("Remove", errInjected)
		r.exit(id, 3)
		r.wantWaited(done, waited{code: 3, message: r.get(id).Run.Error})
		if r.get(id).State != moss.StateDead || r.get(id).Run.Error == "" {
			t.Errorf("%+v", r.get(id))
		}
	})
}

// A waiter learns of the run that ended even where the next begins at once.
func TestWaitThroughARestart(t *testing.T) {
	for range 50 {
		bubble(t, func(t *testing.T, r *rig) {
			id := r.run()
			next, over := r.wait(id, moss.WaitNextExit), r.wait(id, moss.WaitNotRunning)
			r.must(r.Containers().Restart(t.Context(), string(id), moss.StopOptions{}))
			r.wantWaited(next, waited{code: 143})
			r.wantWaited(over, waited{code: 143})
		})
	}
}
