package engine_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Runs of whatever length, ended in whatever way: each wait is twice the one before,
// from 100 ms to a minute, and begins anew after a run of ten seconds; a stop ends it.
func TestBackOffWalk(t *testing.T) {
	for seed := range uint64(10) {
		bubble(t, func(t *testing.T, r *rig) {
			rnd := rand.New(rand.NewPCG(seed, 5))
			lengths := []time.Duration{0, time.Millisecond, 9 * time.Second, 10*time.Second - 1, 10 * time.Second, time.Hour}
			mode := []moss.RestartMode{moss.RestartAlways, moss.RestartUnlessStopped, moss.RestartOnFailure}[rnd.IntN(3)]
			id := r.run(policy(mode, 0))
			wait := 100 * time.Millisecond
			for n := range 25 {
				ran := lengths[rnd.IntN(len(lengths))]
				time.Sleep(ran)
				if ran >= 10*time.Second {
					wait = 100 * time.Millisecond
				}
				r.exit(id, 1+rnd.IntN(3))
				r.wantRestart(id, wait)
				if c := r.get(id); c.Run.Restarts != n+1 {
					t.Errorf("seed %d: %d restarts are counted, want %d", seed, c.Run.Restarts, n+1)
				}
				wait = min(2*wait, time.Minute)
			}
			r.exit(id, 1)
			r.must(r.stop(id))
			time.Sleep(time.Hour)
			r.wantState(id, moss.StateExited, 1)
			r.check()
		})
	}
}
