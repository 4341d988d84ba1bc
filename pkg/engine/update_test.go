package engine_test

import (
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func (r *rig) update(id moss.ContainerID, u moss.ContainerUpdate) error {
	_, err := r.Containers().Update(r.t.Context(), string(id), u)
	return err
}

func limits(change func(*moss.Resources)) moss.ContainerUpdate {
	var u moss.ContainerUpdate
	change(&u.Resources)
	return u
}

func TestUpdate(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		pids := int64(5)
		id := r.create(named("web"), func(q *moss.CreateRequest) { q.Host.Resources = moss.Resources{Memory: 64 << 20, CPUShares: 7} })
		warnings, err := r.Containers().Update(t.Context(), "web", moss.ContainerUpdate{
			Resources: moss.Resources{CPUQuota: 50000, MemorySwap: 128 << 20}, PidsLimit: &pids, RestartPolicy: &moss.RestartPolicy{Mode: moss.RestartAlways},
		})
		r.must(err)
		if len(warnings) != 1 || !strings.Contains(warnings[0], "memory limit") { // the machine has the cpu controller alone
			t.Errorf("%q", warnings)
		}
		want := moss.Resources{Memory: 64 << 20, MemorySwap: 128 << 20, CPUShares: 7, CPUQuota: 50000, PidsLimit: 5}
		if c := r.get(id); c.Host.Resources != want || c.Host.RestartPolicy.Mode != moss.RestartAlways {
			t.Errorf("%+v", c.Host)
		}
		r.start(id)
		r.check()
		r.must(r.update(id, limits(func(l *moss.Resources) { l.Memory = 100 << 20 })))
		r.check() // the unit has what the record has
		r.must(r.update(id, moss.ContainerUpdate{RestartPolicy: &moss.RestartPolicy{Mode: moss.RestartNo}}))
		r.exit(id, 1)
		r.wantState(id, moss.StateExited, 1)
		r.wantActions(id, "create", "update", "start", "update", "update", "die")
		r.crash()
		r.boot(false)
		if c := r.get(id); c.Host.Resources.Memory != 100<<20 || c.Host.RestartPolicy.Mode != moss.RestartNo {
			t.Errorf("after a crash: %+v", c.Host)
		}
	})
}

func TestWhatUpdateRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(func(q *moss.CreateRequest) {
			q.Host.Resources = moss.Resources{NanoCPUs: 1e9, Memory: 64 << 20, MemorySwap: 96 << 20}
		})
		removed, quota := r.create(autoRemove), r.create(func(q *moss.CreateRequest) { q.Host.Resources.CPUQuota = 5000 })
		before := r.get(id).Host
		for name, c := range map[string]struct {
			id    moss.ContainerID
			u     moss.ContainerUpdate
			class moss.Class
			words string
		}{
			"nobody":             {"nobody", moss.ContainerUpdate{}, moss.NotFound, "nobody"},
			"a period":           {id, limits(func(l *moss.Resources) { l.CPUPeriod = 5000 }), moss.Conflict, "CPU Period cannot be updated"},
			"a quota":            {id, limits(func(l *moss.Resources) { l.CPUQuota = 5000 }), moss.Conflict, "CPU Quota cannot be updated"},
			"cpus":               {quota, limits(func(l *moss.Resources) { l.NanoCPUs = 1e9 }), moss.Conflict, "Nano CPUs cannot be updated"},
			"more than swap":     {id, limits(func(l *moss.Resources) { l.Memory = 1 << 30 }), moss.Conflict, "memoryswap"},
			"too little swap":    {id, limits(func(l *moss.Resources) { l.MemorySwap = 1 << 20 }), moss.Conflict, "memoryswap"},
			"swap alone":         {quota, limits(func(l *moss.Resources) { l.MemorySwap = 1 << 30 }), moss.Invalid, "Memory limit"},
			"too much reserved":  {id, limits(func(l *moss.Resources) { l.MemoryReservation = 1 << 30 }), moss.Invalid, "reservation"},
			"a policy with --rm": {removed, moss.ContainerUpdate{RestartPolicy: &moss.RestartPolicy{Mode: moss.RestartAlways}}, moss.Invalid, "AutoRemove"},
			"no such policy":     {id, moss.ContainerUpdate{RestartPolicy: &moss.RestartPolicy{Mode: "maybe"}}, moss.Invalid, "maybe"},
		} {
			err := r.update(c.id, c.u)
			if err == nil || moss.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.words) {
				t.Errorf("%s: %v, want class %s", name, err, c.class)
			}
		}
		if after := r.get(id).Host; after.Resources != before.Resources || after.RestartPolicy != before.RestartPolicy {
			t.Errorf("%+v, was %+v", after, before)
		}
		r.check()
	})
}

// An update that fails, or is cut short by kill -9, leaves record and unit alike.
func TestAnUpdateIsWholeOrNotThere(t *testing.T) {
	for _, kill := range []bool{false, true} {
		for step := 0; ; step++ {
			more := false
			bubble(t, func(t *testing.T, r *rig) {
				id := r.run()
				if kill {
					r.faults.arm(-1, step)
				} else {
					r.faults.arm(step, -1)
				}
				err := r.update(id, limits(func(l *moss.Resources) { l.Memory = 1 << 30 }))
				calls := r.faults.disarm()
				more = len(calls) > step
				if kill {
					r.crash()
					r.boot(false)
				} else if more && step < 2 && (err == nil || r.get(id).Host.Resources.Memory != 0) {
					t.Errorf("%s failed: %v, %+v", calls[step], err, r.get(id).Host.Resources)
				}
				if !more && (err != nil || r.get(id).Host.Resources.Memory != 1<<30) {
					t.Errorf("%v, %+v", err, r.get(id).Host.Resources)
				}
				settle()
				r.must(r.update(id, limits(func(l *moss.Resources) { l.CPUShares = 2 }))) // mends a record that could not be written
				r.check()
				if r.get(id).Intent != moss.IntentNone {
					t.Errorf("the intent %s is left", r.get(id).Intent)
				}
			})
			if !more {
				if step < 3 {
					t.Errorf("an update has %d steps", step)
				}
				break
			}
		}
	}
}
