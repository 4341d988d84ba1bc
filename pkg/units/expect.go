package units

import (
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/moss-containers/moss/pkg/cgroup"
)

// A process that is put into a cgroup waits for all processors to have been
// through the scheduler, unless another was just before: some 8 ms, and before
// version 254 systemd puts each service's into its. The wait does not need the
// process: it begins when this one is put where it is already.
type migration struct {
	procs *os.File // cgroup.procs of this process's cgroup; nil where that may not be written to
	under atomic.Bool
}

func openMigration() *migration {
	procs, err := ownProcs()
	if err != nil {
		return &migration{} // it only saves time
	}
	return &migration{procs: procs}
}

// ownProcs opens cgroup.procs of this process's cgroup, see cgroups(7).
func ownProcs() (*os.File, error) {
	dir, err := cgroup.Dir(cgroup.Own)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0)
}

// Expect is told that a unit is about to be started, and takes no time: what that
// start would wait for in the kernel begins.
func (m *Manager) Expect() {
	if m.moves.procs == nil || !m.moves.under.CompareAndSwap(false, true) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil { // closed, and what goes on is waited for
		return
	}
	m.wg.Go(func() {
		defer m.moves.under.Store(false)
		_, _ = m.moves.procs.WriteString("0") // the writer
	})
}

func (g *migration) close() error {
	if g.procs == nil {
		return nil
	}
	return g.procs.Close()
}
