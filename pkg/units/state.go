package units

import (
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

// Values of ExecMainCode, see waitid(2).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// state is what the manager last said of a service.
type state struct {
	Load, Active, Sub string
	Job               uint32 // id of the job that waits or runs; 0 for none
	MainPID           uint32 // 0 once it has ended
	ExecMainPID       uint32 // stays
	ExecMainCode      int32
	ExecMainStatus    int32
	ExecMainStart     uint64 // µs since 1970
	ExecMainExit      uint64
	Result            string
	Freezer           string // "running", "freezing", "frozen", "thawing"
}

// apply takes over the properties that are there.
func (s *state) apply(p map[string]dbus.Variant) {
	setText(p, "LoadState", &s.Load)
	setText(p, "ActiveState", &s.Active)
	setText(p, "SubState", &s.Sub)
	set(p, "MainPID", &s.MainPID)
	set(p, "ExecMainPID", &s.ExecMainPID)
	set(p, "ExecMainCode", &s.ExecMainCode)
	set(p, "ExecMainStatus", &s.ExecMainStatus)
	set(p, "ExecMainStartTimestamp", &s.ExecMainStart)
	set(p, "ExecMainExitTimestamp", &s.ExecMainExit)
	setText(p, "Result", &s.Result)
	setText(p, "FreezerState", &s.Freezer)
	if job, ok := p["Job"].Value().([]any); ok && len(job) > 0 {
		s.Job, _ = job[0].(uint32)
	}
}

func set[T any](p map[string]dbus.Variant, name string, to *T) {
	if v, ok := p[name].Value().(T); ok {
		*to = v
	}
}

// setText is set with a copy: a text that the bus library has read holds the
// block of 4 KiB that it is in.
func setText(p map[string]dbus.Variant, name string, to *string) {
	if v, ok := p[name].Value().(string); ok && v != *to {
		*to = strings.Clone(v)
	}
}

// phase maps the manager's states onto the engine's. Two cases need the job: an
// inactive unit with one waits to be started, for the first time or, when
// somebody restarts the holder, a second time; that second start is not ours,
// and reporting the end makes the engine collect the unit before it happens.
func (s *state) phase() moss.UnitPhase {
	switch s.Active {
	case "activating":
		return moss.UnitStarting
	case "active", "reloading", "refreshing":
		if s.Sub == "exited" {
			return moss.UnitEnded
		}
		return moss.UnitRunning
	case "deactivating":
		return moss.UnitStopping
	case "failed":
		return moss.UnitEnded
	}
	switch {
	case s.Job == 0:
		return moss.UnitGone
	case s.ExecMainPID == 0:
		return moss.UnitStarting
	}
	return moss.UnitEnded
}

// status is what the engine is told.
func (s *state) status(short string) moss.UnitStatus {
	st := moss.UnitStatus{
		Short: short, Phase: s.phase(), PID: int(s.MainPID),
		StartedAt: stamp(s.ExecMainStart), Result: s.Result,
	}
	st.Frozen = st.Phase == moss.UnitRunning && s.Freezer == frozen
	if s.ExecMainPID == 0 || s.MainPID != 0 {
		return st
	}
	switch s.ExecMainCode {
	case cldExited:
		st.ExitCode = int(s.ExecMainStatus)
	case cldKilled, cldDumped:
		st.ExitCode = 128 + int(s.ExecMainStatus)
	default:
		return st
	}
	st.Exited, st.PID = true, int(s.ExecMainPID)
	st.ExitedAt = stamp(s.ExecMainExit)
	if s.Result == "oom-kill" {
		st.OOMKills = 1
	}
	return st
}

func stamp(usec uint64) time.Time {
	if usec == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(usec))
}
