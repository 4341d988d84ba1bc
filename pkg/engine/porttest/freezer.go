package porttest

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Freezer runs the contract suite of [engine.Freezer], which the rig's Units must be too.
func Freezer(t *testing.T, open func(t *testing.T) UnitsRig) {
	t.Run("freeze and thaw", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		f := r.Units().(engine.Freezer)
		w := watchUnits(t, r, id)
		startUnit(t, r, id)
		for range 3 { // what is so already is not an error
			freeze(t, f, id)
		}
		if got := listUnit(t, r, id); got == nil || !got.Frozen || got.Phase != moss.UnitRunning {
			t.Errorf("list has %+v, want a frozen unit", got)
		}
		w.until(t, "frozen", func(s moss.UnitStatus) bool { return s.Frozen })
		w.forget()
		for range 2 {
			thaw(t, f, id)
		}
		w.until(t, "not frozen", func(s moss.UnitStatus) bool { return !s.Frozen && s.Phase == moss.UnitRunning })
		r.Exit(t, id, 4)
		if st := w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded }); st.ExitCode != 4 {
			t.Errorf("after the thaw: %+v, want exit code 4", st)
		}
	})

	t.Run("what does not run", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		f := r.Units().(engine.Freezer)
		if err := f.Freeze(t.Context(), id); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("freeze of a unit that is not there: %v, want Conflict", err)
		}
		if err := f.Thaw(t.Context(), id); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("thaw of a unit that is not there: %v, want Conflict", err)
		}
		w := watchUnits(t, r, id)
		startUnit(t, r, id)
		r.Exit(t, id, 1)
		w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded })
		if err := f.Freeze(t.Context(), id); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("freeze of an ended unit: %v, want Conflict", err)
		}
	})

	t.Run("a frozen unit is killed", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		w := watchUnits(t, r, id)
		startUnit(t, r, id)
		freeze(t, r.Units().(engine.Freezer), id)
		if err := r.Units().Kill(t.Context(), id, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		st := w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded })
		if st.ExitCode != 137 || st.Frozen {
			t.Errorf("after SIGKILL: %+v, want exit code 137 and not frozen", st)
		}
	})

	t.Run("a frozen unit is collected", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		startUnit(t, r, id)
		freeze(t, r.Units().(engine.Freezer), id)
		collectUnit(t, r, id)
		if got := listUnit(t, r, id); got != nil {
			t.Errorf("left over: %+v", got)
		}
		if st := startUnit(t, r, id); st.Frozen {
			t.Errorf("started anew: %+v", st)
		}
	})

	t.Run("a new connection knows", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		w := watchUnits(t, r, id)
		startUnit(t, r, id)
		freeze(t, r.Units().(engine.Freezer), id)
		w.until(t, "frozen", func(s moss.UnitStatus) bool { return s.Frozen })
		w.forget()
		r.Disconnect(t)
		w.until(t, "frozen", func(s moss.UnitStatus) bool { return s.Frozen })
		thaw(t, r.Units().(engine.Freezer), id)
	})
}

// freeze also sees that an answer comes in a time that nobody would call waiting.
func freeze(t *testing.T, f engine.Freezer, id moss.ContainerID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.Freeze(ctx, id); err != nil {
		t.Fatal(err)
	}
}

func thaw(t *testing.T, f engine.Freezer, id moss.ContainerID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := f.Thaw(ctx, id); err != nil {
		t.Fatal(err)
	}
}
