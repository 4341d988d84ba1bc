package porttest

import (
	"context"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// UnitHistory runs the contract suite of [engine.UnitHistory], which the Units of a rig is too.
func UnitHistory(t *testing.T, open func(t *testing.T) UnitsRig) {
	t.Run("a stop is told with its time, to whoever asks about that run", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		h, ok := r.Units().(engine.UnitHistory)
		if !ok {
			t.Fatal("it has no history")
		}
		first := startUnit(t, r, id)
		if p, err := h.Past(t.Context(), id, first.StartedAt); err != nil || p != (moss.UnitPast{}) {
			t.Errorf("of a unit that runs: %+v, %v", p, err)
		}
		before := time.Now().Truncate(time.Microsecond)
		r.Stop(t, id)
		after := time.Now()
		p := pastOf(t, h, id, first.StartedAt)
		if p.StoppedAt.Before(before) || p.StoppedAt.After(after) || p.OOMKills != 0 {
			t.Errorf("%+v, want a stop between %v and %v", p, before, after)
		}
		again := startUnit(t, r, id)
		if p, err := h.Past(t.Context(), id, again.StartedAt); err != nil || p != (moss.UnitPast{}) {
			t.Errorf("the next run has the stop of the run before: %+v, %v", p, err)
		}
		if p, err := h.Past(t.Context(), moss.ContainerID(moss.NewHexID()), time.Time{}); err != nil || p != (moss.UnitPast{}) {
			t.Errorf("of a unit that never was: %+v, %v", p, err)
		}
	})
}

// pastOf waits until there is something: what is written of a unit may come a moment after it.
func pastOf(t *testing.T, h engine.UnitHistory, id moss.ContainerID, since time.Time) moss.UnitPast {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), unitsPatience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		p, err := h.Past(ctx, id, since)
		if err != nil {
			t.Fatal(err)
		}
		if p != (moss.UnitPast{}) {
			return p
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatal("nothing is told")
		}
	}
}
