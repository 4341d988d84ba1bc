package engine

import (
	"context"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// The labels by which docker compose says what a container is and after which
// others it comes: "db:service_started:false,cache:service_healthy:true".
const (
	composeProject   = "com.docker.compose.project"
	composeService   = "com.docker.compose.service"
	composeDependsOn = "com.docker.compose.depends_on"
)

// service is one of a compose file.
type service struct{ project, name string }

func serviceOf(rec *moss.Container) service {
	return service{rec.Config.Labels[composeProject], rec.Config.Labels[composeService]}
}

// condition is what a compose file wants of a service before another one starts.
type condition string

// The conditions that want more than a start.
const (
	untilHealthy   condition = "service_healthy"
	untilCompleted condition = "service_completed_successfully"
)

// dependency is one of a container's.
type dependency struct {
	service
	until condition
}

// dependsOn reads what a container's compose file says.
func dependsOn(rec *moss.Container) (out []dependency) {
	project := rec.Config.Labels[composeProject]
	if project == "" {
		return nil
	}
	for dep := range strings.SplitSeq(rec.Config.Labels[composeDependsOn], ",") {
		name, rest, _ := strings.Cut(strings.TrimSpace(dep), ":")
		until, _, _ := strings.Cut(rest, ":")
		if name != "" {
			out = append(out, dependency{service{project, name}, condition(until)})
		}
	}
	return out
}

// look says whether a container is as a dependency wants it, and where it is not,
// whether waiting is in vain. began are the runs that had ended when the wait began:
// one that ends meanwhile has failed, or done what it was to do.
func (u condition) look(s snapshot, began int) (met, hopeless bool) {
	rec := s.rec
	due := rec.State.Alive() || rec.State == moss.StateRestarting
	switch u {
	case untilHealthy:
		h := rec.Run.Health
		switch {
		case s.removed, !due, s.exits != began:
			return false, true
		case !rec.State.Alive():
			return false, false
		case h == nil:
			return false, true // it has no check, and never will be
		}
		return h.Status == moss.HealthHealthy, h.Status == moss.HealthUnhealthy
	case untilCompleted:
		switch {
		case s.exits != began:
			return s.code == 0, s.code != 0
		case s.removed:
			return false, true
		case due:
			return false, false
		}
		met = rec.State == moss.StateExited && !rec.Run.StartedAt.IsZero() && rec.Run.ExitCode == 0 && rec.Run.Error == ""
		return met, !met
	default:
		return true, false
	}
}

// awaitService waits while a container that is due to start depends on the health
// or the end of another service's. What cannot come true any more, as with a service
// that is unhealthy, is not waited for: its policy wants the container to run.
// skip are containers that wait for this one.
func (e *Engine) awaitService(ctx context.Context, c *container, d dependency, skip func(moss.ContainerID) bool) {
	if d.until != untilHealthy && d.until != untilCompleted {
		return
	}
	for _, other := range e.all() {
		if other == c || serviceOf(other.record()) != d.service || skip(other.id) {
			continue
		}
		began := other.snapshot().exits
		for waiting := true; waiting; {
			mine, theirs := c.snapshot(), other.snapshot()
			met, hopeless := d.until.look(theirs, began)
			switch {
			case mine.removed || !isDue(mine.rec) || met:
				waiting = false
				continue
			case hopeless:
				e.Log.Warn("a container is started although what it depends on is not as it wants",
					"container", mine.rec.Name, "on", theirs.rec.Name, "wants", string(d.until), "state", theirs.rec.State)
				waiting = false
				continue
			}
			select {
			case <-mine.changed:
			case <-theirs.changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

// isDue says whether a container that does not run waits for its start.
func isDue(rec *moss.Container) bool {
	return rec.State == moss.StateRestarting || rec.Intent == moss.IntentStart && !rec.State.Alive()
}
