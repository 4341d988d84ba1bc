package engine

import (
	"context"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// statsEvery is docker's.
const statsEvery = time.Second

// Processes lists a running container's processes. Errors: Conflict when it does not run.
func (s Views) Processes(ctx context.Context, ref string) (moss.ProcessList, error) {
	c, err := s.find(ref)
	if err != nil {
		return moss.ProcessList{}, err
	}
	rec := c.record()
	switch {
	case rec.State == moss.StateRestarting:
		return moss.ProcessList{}, moss.Errorf(moss.Conflict, "container %s is restarting, wait until the container is running", rec.ID)
	case !rec.State.Alive():
		return moss.ProcessList{}, moss.Errorf(moss.Conflict, "container %s is not running", rec.ID)
	}
	list, err := s.Meter.Processes(ctx, rec.ID, rec.Run.PID)
	if err != nil {
		return list, err
	}
	s.publish(rec, "top", time.Now())
	return list, nil
}

// Stats calls fn with what a container uses: every second until it is removed or
// ctx ends, or once. While it does not run there is nothing to tell but its name.
func (s Views) Stats(ctx context.Context, ref string, mode moss.StatsMode, fn func(moss.Stats) error) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	var before moss.Sample
	pid := 0
	for first := true; ; first = false {
		at := c.snapshot()
		if at.removed {
			return nil
		}
		now, err := s.sampleOf(ctx, at.rec)
		if err != nil {
			return err
		}
		if pid != at.rec.Run.PID { // another run
			pid, before = at.rec.Run.PID, moss.Sample{}
		}
		// A pair is told with its second sample; without a run there is none to wait for.
		if tell := mode != moss.StatsPair || !first || now.At.IsZero(); tell {
			if err := fn(moss.Stats{ID: c.id, Name: at.rec.Name, Now: now, Before: before}); err != nil || mode != moss.StatsStream {
				return err
			}
		}
		before = now
		if err := c.pass(ctx, statsEvery); err != nil {
			return err
		}
	}
}

// sampleOf is the zero Sample for a container that does not run.
func (s Views) sampleOf(ctx context.Context, rec *moss.Container) (moss.Sample, error) {
	if !rec.State.Alive() {
		return moss.Sample{}, nil
	}
	now, err := s.Meter.Sample(ctx, rec.ID, rec.Run.PID)
	if err != nil && moss.ClassOf(err) == moss.Conflict { // it has just ended
		return moss.Sample{}, nil
	}
	if rec.Host.NetworkMode == moss.NetworkHost {
		now.Networks = nil // they are not its own
	}
	return now, err
}

// pass lets some time go by, or less where the container is removed meanwhile.
func (c *container) pass(ctx context.Context, d time.Duration) error {
	passing, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_, _ = c.await(passing, func(s snapshot) bool { return s.removed }) // that the time is over is no error
	return ctx.Err()
}
