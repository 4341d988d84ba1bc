package engine

import (
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// The back-off of the restart policy, docker's.
const (
	backoffFirst = 100 * time.Millisecond
	backoffMax   = time.Minute
	// steadyRun is how long a run lasts for the back-off to begin anew.
	steadyRun = 10 * time.Second
)

// shouldRestart says whether the policy starts an ended container again.
// calledOff is set when the user ended the run; restarts counts those since the
// user last started it.
func shouldRestart(p moss.RestartPolicy, code, restarts int, calledOff bool) bool {
	if calledOff {
		return false
	}
	switch p.Mode {
	case moss.RestartAlways, moss.RestartUnlessStopped:
		return true
	case moss.RestartOnFailure:
		return code != 0 && (p.MaxRetries == 0 || restarts < p.MaxRetries)
	default:
		return false
	}
}

// shouldRevive says whether a container whose unit is gone, with the boot or
// with the holder, or that had ended before, is started when the daemon is.
func shouldRevive(p moss.RestartPolicy, rec *moss.Container) bool {
	switch p.Mode {
	case moss.RestartAlways:
		return true
	case moss.RestartUnlessStopped:
		return !rec.Stopped
	case moss.RestartOnFailure:
		return !rec.Stopped && rec.Run.ExitCode != 0 && (p.MaxRetries == 0 || rec.Run.Restarts < p.MaxRetries)
	default:
		return false
	}
}

// backoff is the wait before the n-th restart in a row, n from 0.
func backoff(n int) time.Duration {
	d := backoffFirst
	for range n {
		d *= 2
		if d >= backoffMax {
			return backoffMax
		}
	}
	return d
}
