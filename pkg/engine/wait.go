package engine

import (
	"context"

	"github.com/moss-containers/moss/pkg/moss"
)

// Wait waits for a condition and returns the exit code of the run, and
// where a removal was waited for and failed, why. ready is called once nothing can be missed any more.
func (s Views) Wait(ctx context.Context, ref string, cond moss.WaitCondition, ready func()) (int, string, error) {
	c, err := s.find(ref)
	if err != nil {
		return 0, "", err
	}
	start := c.snapshot()
	var ok func(snapshot) bool
	switch cond {
	case moss.WaitNotRunning, "":
		ok = func(s snapshot) bool {
			return s.removed || s.halts != start.halts || (!s.rec.State.Alive() && s.rec.State != moss.StateRestarting)
		}
	case moss.WaitNextExit:
		ok = func(s snapshot) bool { return s.removed || s.exits != start.exits }
	case moss.WaitRemoved:
		ok = func(s snapshot) bool { return s.removed || s.rec.State == moss.StateDead }
	default:
		return 0, "", moss.Errorf(moss.Invalid, "invalid condition: %q", cond)
	}
	ready()
	at, err := c.await(ctx, ok)
	if err != nil {
		return 0, "", err
	}
	message := ""
	if at.rec.State == moss.StateDead {
		message = at.rec.Run.Error // why it could not be removed
	}
	if at.rec.State.Alive() {
		return at.code, message, nil // the next run has begun already
	}
	return at.rec.Run.ExitCode, message, nil
}
