package porttest

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// MeterRig is what the contract of [engine.Meter] is tried on.
type MeterRig interface {
	Meter() engine.Meter
	// Start starts a container's main process.
	Start(t *testing.T) (id moss.ContainerID, pid int)
	// Stop ends it.
	Stop(t *testing.T, id moss.ContainerID)
}

// Meter runs the contract suite of [engine.Meter].
func Meter(t *testing.T, open func(t *testing.T) MeterRig) {
	t.Run("a running container", func(t *testing.T) {
		r := open(t)
		id, pid := r.Start(t)
		list, err := r.Meter().Processes(t.Context(), id, pid)
		if err != nil || len(list.Processes) != 1 || list.At.IsZero() || list.Memory <= 0 {
			t.Fatalf("%+v %v, want the one process", list, err)
		}
		p := list.Processes[0]
		if p.PID != pid || p.User == "" || p.State == "" || p.TTY == "" || p.Threads < 1 || p.Comm == "" || len(p.Args) == 0 || p.Started.IsZero() || p.Started.After(list.At) {
			t.Errorf("%+v", p)
		}
		first, err := r.Meter().Sample(t.Context(), id, pid)
		if err != nil || first.At.IsZero() || first.CPUs < 1 || first.SystemCPU <= 0 || first.MemoryLimit < first.Memory || first.PIDs < 1 {
			t.Fatalf("%+v %v", first, err)
		}
		second, err := r.Meter().Sample(t.Context(), id, pid)
		if err != nil || second.CPU < first.CPU || second.SystemCPU < first.SystemCPU || second.At.Before(first.At) {
			t.Errorf("%+v after %+v: %v", second, first, err)
		}
	})

	t.Run("what does not run", func(t *testing.T) {
		r := open(t)
		id, pid := r.Start(t)
		other := moss.ContainerID(moss.NewHexID())
		wantNotRunning(t, r, other, pid) // somebody else's process
		wantNotRunning(t, r, id, pid+1<<22)
		r.Stop(t, id)
		wantNotRunning(t, r, id, pid)
	})
}

func wantNotRunning(t *testing.T, r MeterRig, id moss.ContainerID, pid int) {
	t.Helper()
	if list, err := r.Meter().Processes(t.Context(), id, pid); err == nil || moss.ClassOf(err) != moss.Conflict {
		t.Errorf("%+v %v, want Conflict", list, err)
	}
	if s, err := r.Meter().Sample(t.Context(), id, pid); err == nil || moss.ClassOf(err) != moss.Conflict {
		t.Errorf("%+v %v, want Conflict", s, err)
	}
}
