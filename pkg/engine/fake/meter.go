package fake

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.Meter = (*Units)(nil)

// Processes implements engine.Meter: there is one in a unit that runs.
func (u *Units) Processes(_ context.Context, id moss.ContainerID, pid int) (moss.ProcessList, error) {
	st, err := u.runs(id, pid)
	if err != nil {
		return moss.ProcessList{}, moss.Wrap(err, "list the processes of", id.Short())
	}
	p := moss.ProcessInfo{PID: pid, User: "root", State: "S", TTY: "?", Threads: 1, Started: st.StartedAt, Comm: "launch", Args: []string{"launch"}}
	return moss.ProcessList{Processes: []moss.ProcessInfo{p}, At: time.Now(), Memory: 1 << 30}, nil
}

// Sample implements engine.Meter: a unit uses a tenth of a processor.
func (u *Units) Sample(_ context.Context, id moss.ContainerID, pid int) (moss.Sample, error) {
	st, err := u.runs(id, pid)
	if err != nil {
		return moss.Sample{}, moss.Wrap(err, "measure", id.Short())
	}
	now := time.Now()
	return moss.Sample{
		At: now, CPU: now.Sub(st.StartedAt) / 10, SystemCPU: 2 * time.Duration(now.UnixNano()), CPUs: 2,
		Memory: 1 << 20, MemoryLimit: 1 << 30, PIDs: 1, Networks: map[string]moss.LinkUse{"eth0": {RxBytes: 1}},
	}, nil
}

func (u *Units) runs(id moss.ContainerID, pid int) (moss.UnitStatus, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.units[id.Short()]
	if st == nil || st.PID != pid || st.Exited {
		return moss.UnitStatus{}, moss.Errorf(moss.Conflict, "it does not run")
	}
	return *st, nil
}
