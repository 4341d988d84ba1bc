package engine_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// A stop goes on with the next daemon as it was asked for, with all the time that it may take.
func TestStopGoesOnAsAsked(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(named("web"))
		r.units.Ignore = func(_ moss.ContainerID, sig syscall.Signal) bool { return sig != syscall.SIGKILL }
		wait, forever := time.Hour, time.Duration(-1)
		done := make(chan error, 1)
		go func() {
			done <- r.Containers().Stop(t.Context(), string(id), moss.StopOptions{Timeout: &wait, Signal: "HUP"})
		}()
		settle()
		if as := r.get(id).StopAs; as == nil || as.Signal != "HUP" || *as.Timeout != wait {
			t.Errorf("the record has %+v", as)
		}
		r.must(<-done)
		r.start(id)
		r.reboot(false, func() {
			r.edit(id, func(c *moss.Container) {
				c.Stopped, c.Intent, c.StopAs = true, moss.IntentStop, &moss.StopOptions{Timeout: &forever}
			})
		})
		time.Sleep(time.Hour)
		r.wantState(id, moss.StateRunning, 0)
		r.units.Exit(id, 5)
		settle()
		r.wantState(id, moss.StateExited, 5)
		if r.get(id).StopAs != nil {
			t.Error("it is still kept how the stop was asked for")
		}
		r.units.Ignore = nil
		r.must(r.remove(id, true))
		r.checkEmpty()
	})
}

// A stop that a daemon has left in the middle ends a container that is paused, too, by the signal that was asked for.
func TestStopOfAPausedContainerGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, forever := r.run(), time.Duration(-1)
		r.must(r.pause(id))
		r.reboot(false, func() {
			r.edit(id, func(c *moss.Container) {
				c.Stopped, c.Intent, c.StopAs = true, moss.IntentStop, &moss.StopOptions{Signal: "HUP", Timeout: &forever}
			})
		})
		settle()
		r.wantState(id, moss.StateExited, 129)
		if r.get(id).StopAs != nil {
			t.Error("it is still kept how the stop was asked for")
		}
		r.must(r.remove(id, true))
		r.checkEmpty()
	})
}
