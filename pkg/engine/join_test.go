package engine_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/moss-containers/moss/pkg/moss"
)

// After a reboot a container comes up after the one whose namespaces it joins.
func TestRebootStartsDonorsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, false)
		always := policy(moss.RestartAlways, 0)
		shareable := func(q *moss.CreateRequest) { q.Host.IpcMode = "shareable" }
		donor := r.create(named("donor"), always, shareable)
		joins := func(id moss.ContainerID) option {
			return func(q *moss.CreateRequest) {
				q.Host.NetworkMode, q.Host.IpcMode = moss.NetworkMode(moss.JoinMode(id)), moss.JoinMode(id)
			}
		}
		middle := r.create(named("middle"), always, joins(donor))
		last := r.create(named("last"), always, joins(middle))
		all := []moss.ContainerID{donor, middle, last}
		if err := r.Containers().Start(t.Context(), string(last)); err == nil || !strings.Contains(err.Error(), "cannot join network namespace of a non running container: middle") {
			t.Fatalf("start of a container that joins one which does not run: %v", err)
		}
		for _, id := range all {
			r.start(id)
		}
		r.reboot(true, func() {
			for _, id := range all {
				r.must(r.units.Collect(t.Context(), id))
			}
			r.records.Reboot()
		})
		synctest.Wait()
		for _, id := range all {
			r.wantState(id, moss.StateRunning, 0)
		}
		for _, id := range all {
			r.must(r.remove(id, true))
		}
	})
}
