package porttest

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// OOMRig is what is tried of [engine.Units] where the kernel kills for want of memory.
type OOMRig interface {
	UnitsRig
	// OOMInside has the kernel kill a process in the unit, which is not its main one.
	OOMInside(t *testing.T, id moss.ContainerID)
	// Again is a manager of the same units, as the next daemon has one.
	Again(t *testing.T) engine.Units
}

// OOM says that [engine.Units] tells of what the kernel kills in a unit that goes on.
func OOM(t *testing.T, open func(t *testing.T) OOMRig) {
	t.Run("it is told when it happens and remembered", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		w := watchUnits(t, r, id)
		pid := startUnit(t, r, id).PID
		w.until(t, "running", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning && s.OOMKills == 0 })
		for n := range uint64(2) {
			r.OOMInside(t, id)
			w.until(t, "a kill", func(s moss.UnitStatus) bool {
				return s.Phase == moss.UnitRunning && s.PID == pid && s.OOMKills == n+1
			})
		}
		if got := listUnit(t, r, id); got == nil || got.OOMKills != 2 {
			t.Errorf("list has %+v, want 2 kills", got)
		}
		again := watchUnits(t, anew{r, r.Again(t)}, id)
		again.until(t, "what was before", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning && s.OOMKills == 2 })
		r.Exit(t, id, 3)
		for _, w := range []*unitWatch{w, again} {
			st := w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded })
			if st.OOMKills != 2 || st.ExitCode != 3 {
				t.Errorf("at its end: %+v, want 2 kills and exit code 3", st)
			}
			w.inOrder(t)
		}
		collectUnit(t, r, id)
		w.forget()
		startUnit(t, r, id)
		w.until(t, "the next run", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning && s.OOMKills == 0 })
	})
}

// anew is a rig as the next daemon sees it.
type anew struct {
	UnitsRig
	units engine.Units
}

func (a anew) Units() engine.Units { return a.units }
