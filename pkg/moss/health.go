package moss

import (
	"slices"
	"time"
)

// Healthcheck is a container's health check, as docker has it. Zero durations
// and retries mean docker's defaults.
type Healthcheck struct {
	Test                                          []string      `json:",omitzero"` // CMD and a command, CMD-SHELL and a line, NONE, or nothing
	Interval, Timeout, StartPeriod, StartInterval time.Duration `json:",omitzero"`
	Retries                                       int           `json:",omitzero"`
}

// The first words of a health check's test.
const (
	TestCommand = "CMD"
	TestShell   = "CMD-SHELL"
	TestNone    = "NONE"
)

// Command is what the check runs, with the shell for a line; nil where there
// is nothing to run.
func (h *Healthcheck) Command(shell []string) []string {
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case TestCommand:
		return h.Test[1:]
	case TestShell:
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, h.Test[1:])
	}
	return nil
}

// HealthStatus is what health checks say of a run, in docker's words.
type HealthStatus string

// The health statuses.
const (
	HealthNone      HealthStatus = "none" // there is no check
	HealthStarting  HealthStatus = "starting"
	HealthHealthy   HealthStatus = "healthy"
	HealthUnhealthy HealthStatus = "unhealthy"
)

// Health is what is known of a run's health. It is immutable.
type Health struct {
	Status        HealthStatus  `json:",omitzero"`
	FailingStreak int           `json:",omitzero"` // failures in a row that count
	Log           []HealthProbe `json:",omitzero"` // the latest, the newest last
}

// HealthProbe is one run of a health check.
type HealthProbe struct {
	Start, End time.Time `json:",omitzero"`
	ExitCode   int       `json:",omitzero"` // -1 where the check did not come to its end
	Output     string    `json:",omitzero"`
}

// Health is the status of the run's health, HealthNone without a check.
func (c *Container) Health() HealthStatus {
	if c.Run.Health == nil {
		return HealthNone
	}
	return c.Run.Health.Status
}

// UnhealthyLabel is the label that says what is done with a container that has
// become unhealthy: it can be given by any client.
const UnhealthyLabel = "moss.on-unhealthy"

// UnhealthyAction is a value of that label.
type UnhealthyAction string

// What can be done with an unhealthy container.
const (
	UnhealthyNone    UnhealthyAction = "none"
	UnhealthyRestart UnhealthyAction = "restart" // whatever the restart policy says
	UnhealthyStop    UnhealthyAction = "stop"    // as by the user
	UnhealthyKill    UnhealthyAction = "kill"    // the restart policy has its say then
)

// OnUnhealthy is what the container's label says. Errors: Invalid.
func (c *ContainerConfig) OnUnhealthy() (UnhealthyAction, error) {
	a := UnhealthyAction(c.Labels[UnhealthyLabel])
	switch a {
	case "":
		return UnhealthyNone, nil
	case UnhealthyNone, UnhealthyRestart, UnhealthyStop, UnhealthyKill:
		return a, nil
	}
	return UnhealthyNone, Errorf(Invalid, "invalid value %q of the label %s: want none, restart, stop or kill", string(a), UnhealthyLabel)
}
