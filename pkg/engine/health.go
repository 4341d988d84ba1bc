package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// docker's defaults of health checks, and how much of their past is kept.
const (
	healthInterval      = 30 * time.Second
	healthTimeout       = 30 * time.Second
	healthStartInterval = 5 * time.Second
	healthRetries       = 3
	healthLog           = 5
	healthOutput        = 4096
)

// check is a health check with its defaults filled in.
type check struct {
	command                                       []string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
}

// checkOf is a container's check; false where it has none.
func checkOf(rec *moss.Container) (check, bool) {
	h := rec.Config.Healthcheck
	command := h.Command(rec.Config.Shell)
	if len(command) == 0 {
		return check{}, false
	}
	return check{
		command:  command,
		interval: cmp.Or(h.Interval, healthInterval), timeout: cmp.Or(h.Timeout, healthTimeout),
		startPeriod: h.StartPeriod, startInterval: cmp.Or(h.StartInterval, healthStartInterval),
		retries: cmp.Or(h.Retries, healthRetries),
	}, true
}

// newHealth is the health of a run that begins; nil without a check.
func newHealth(rec *moss.Container) *moss.Health {
	if _, ok := checkOf(rec); !ok {
		return nil
	}
	return &moss.Health{Status: moss.HealthStarting}
}

// endedHealth is the health of a run that has ended: clients know nothing
// better than unhealthy for it, as docker has it.
func endedHealth(h *moss.Health) *moss.Health {
	if h == nil {
		return nil
	}
	end := *h
	end.Status = moss.HealthUnhealthy
	return &end
}

// pause is the time from one probe to the next.
func (k check) pause(h *moss.Health, started, now time.Time) time.Duration {
	if h.Status == moss.HealthStarting && now.Sub(started) < k.startPeriod {
		return k.startInterval
	}
	return k.interval
}

// after is the health once a probe has ended. Failures do not count within the
// start period, until the first success.
func (k check) after(h *moss.Health, p moss.HealthProbe, started time.Time) *moss.Health {
	next := &moss.Health{Status: h.Status, FailingStreak: h.FailingStreak}
	kept := h.Log[max(0, len(h.Log)-(healthLog-1)):]
	next.Log = append(slices.Clone(kept), p)
	switch {
	case p.ExitCode == 0:
		next.Status, next.FailingStreak = moss.HealthHealthy, 0
	case h.Status == moss.HealthStarting && p.Start.Sub(started) < k.startPeriod:
	default:
		next.FailingStreak++
		if next.FailingStreak >= k.retries {
			next.Status = moss.HealthUnhealthy
		}
	}
	return next
}

// checkHealth refuses what cannot be meant, and tells of a check that will never run.
func checkHealth(rec *moss.Container) (warnings []string, err error) {
	action, err := rec.Config.OnUnhealthy()
	if err != nil {
		return nil, err
	}
	_, runs := checkOf(rec)
	if h := rec.Config.Healthcheck; !runs && h != nil && len(h.Test) > 0 && h.Test[0] != moss.TestNone {
		warnings = append(warnings, "The health check "+h.Test[0]+" is discarded: it is neither CMD nor CMD-SHELL with a command.")
	}
	if !runs && action != moss.UnhealthyNone {
		warnings = append(warnings, "The label "+moss.UnhealthyLabel+" is discarded: the container has no health check.")
	}
	return warnings, nil
}
