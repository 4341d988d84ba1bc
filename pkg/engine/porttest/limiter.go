package porttest

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// LimiterRig is what the contract of [engine.Limiter] is tried on: its Units are one too.
type LimiterRig interface {
	UnitsRig
	// MemoryLimit is what the unit may use at most.
	MemoryLimit(t *testing.T, id moss.ContainerID) int64
}

// Limiter runs the contract suite of [engine.Limiter].
func Limiter(t *testing.T, open func(t *testing.T) LimiterRig) {
	t.Run("a running unit", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		pid := startUnit(t, r, id).PID
		for _, memory := range []int64{64 << 20, 128 << 20} {
			limits := moss.Resources{Memory: memory, NanoCPUs: 5e8, CPUShares: 512, PidsLimit: 7, BlkioWeight: 300}
			if err := r.Units().(engine.Limiter).Limit(t.Context(), id, limits); err != nil {
				t.Fatal(err)
			}
			if got := r.MemoryLimit(t, id); got != memory {
				t.Errorf("limited to %d, want %d", got, memory)
			}
		}
		if err := r.Units().(engine.Limiter).Limit(t.Context(), id, moss.Resources{}); err != nil {
			t.Error(err)
		}
		if got := listUnit(t, r, id); got == nil || got.PID != pid || got.Phase != moss.UnitRunning {
			t.Errorf("list has %+v, want pid %d running", got, pid)
		}
	})

	t.Run("what does not run", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		l := r.Units().(engine.Limiter)
		if err := l.Limit(t.Context(), id, moss.Resources{Memory: 64 << 20}); err == nil || moss.ClassOf(err) != moss.Conflict {
			t.Errorf("a unit that is not there: %v, want Conflict", err)
		}
		w := watchUnits(t, r, id)
		startUnit(t, r, id)
		r.Exit(t, id, 1)
		w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded })
		if err := l.Limit(t.Context(), id, moss.Resources{Memory: 64 << 20}); err == nil || moss.ClassOf(err) != moss.Conflict {
			t.Errorf("an ended unit: %v, want Conflict", err)
		}
	})
}
