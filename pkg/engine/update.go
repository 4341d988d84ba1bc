package engine

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Update changes a container's limits, of a running one at once, and its restart
// policy. Errors: Conflict with what is set already, and for a dead container.
func (s Containers) Update(ctx context.Context, ref string, u moss.ContainerUpdate) (warnings []string, err error) {
	c, err := s.locked(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer c.release()
	old := c.record()
	if old.State == moss.StateDead || old.State == moss.StateRemoving {
		return nil, moss.Errorf(moss.Conflict, "cannot update container %s: it is marked for removal", old.ID)
	}
	host := old.Host
	if u.RestartPolicy != nil {
		if host.AutoRemove {
			return nil, moss.Errorf(moss.Invalid, "Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		if err := checkRestartPolicy(*u.RestartPolicy, false); err != nil {
			return nil, err
		}
		host.RestartPolicy = *u.RestartPolicy
	}
	if host.Resources, err = updated(host.Resources, u); err != nil {
		return nil, err
	}
	if warnings, err = s.discardedLimits(ctx, u.Resources); err != nil {
		return nil, err
	}
	if err := s.applyUpdate(context.WithoutCancel(ctx), c, host); err != nil {
		return nil, moss.Wrap(err, "update", old.Name)
	}
	s.publish(c.record(), "update", time.Now())
	return warnings, nil
}

// applyUpdate writes the record, changes the unit, and undoes the one where the
// other fails; the caller holds the turn.
func (e *Engine) applyUpdate(ctx context.Context, c *container, host moss.HostConfig) error {
	old := c.record()
	live := old.State.Alive() && host.Resources != old.Host.Resources
	intent := old.Intent
	if live && intent == moss.IntentNone {
		intent = moss.IntentUpdate // the next daemon finishes it
	}
	if err := e.rewrite(c, func(r *moss.Container) { r.Host, r.Intent = host, intent }); err != nil {
		return err
	}
	if !live {
		return nil
	}
	err := e.limit(ctx, c)
	if err == nil {
		e.noteFact(c, func(r *moss.Container) { r.Intent = old.Intent })
		return nil
	}
	return errors.Join(err, e.rewrite(c, func(r *moss.Container) { r.Host, r.Intent = old.Host, old.Intent }))
}

// limit gives a running unit its record's limits; the caller holds the turn.
func (e *Engine) limit(ctx context.Context, c *container) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	rec := c.record()
	err := e.Limiter.Limit(ctx, rec.ID, rec.Host.Resources)
	if err != nil && moss.ClassOf(err) == moss.Conflict {
		return nil // it has just ended; the next run begins with them
	}
	return err
}

// finishUpdate goes on where an update was interrupted; the caller holds the turn.
func (e *Engine) finishUpdate(ctx context.Context, c *container) error {
	if c.record().Intent != moss.IntentUpdate {
		return nil
	}
	err := e.limit(ctx, c)
	e.noteFact(c, func(r *moss.Container) { r.Intent = moss.IntentNone })
	return moss.Wrap(err, "set the limits of", c.record().Name)
}

// updated are limits with those that an update names in place of the old ones.
func updated(have moss.Resources, u moss.ContainerUpdate) (moss.Resources, error) {
	want := u.Resources
	if err := fits(have, want); err != nil {
		return have, err
	}
	for _, f := range []struct{ to, from *int64 }{
		{&have.Memory, &want.Memory},
		{&have.MemoryReservation, &want.MemoryReservation},
		{&have.MemorySwap, &want.MemorySwap},
		{&have.NanoCPUs, &want.NanoCPUs},
		{&have.CPUPeriod, &want.CPUPeriod},
		{&have.CPUQuota, &want.CPUQuota},
		{&have.CPUShares, &want.CPUShares},
	} {
		*f.to = cmp.Or(*f.from, *f.to)
	}
	have.CpusetCpus, have.CpusetMems = cmp.Or(want.CpusetCpus, have.CpusetCpus), cmp.Or(want.CpusetMems, have.CpusetMems)
	have.BlkioWeight = cmp.Or(want.BlkioWeight, have.BlkioWeight)
	if u.PidsLimit != nil {
		have.PidsLimit = *u.PidsLimit
	}
	switch {
	case have.MemorySwap > 0 && have.Memory == 0:
		return have, moss.Errorf(moss.Invalid, "You should always set the Memory limit when using Memoryswap limit, see usage")
	case have.Memory > 0 && have.MemoryReservation > have.Memory:
		return have, moss.Errorf(moss.Invalid, "Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	return have, nil
}

// fits says what of an update stands against what is set already, in docker's words.
func fits(have, want moss.Resources) error {
	switch {
	case want.NanoCPUs > 0 && have.CPUPeriod > 0:
		return moss.Errorf(moss.Conflict, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case want.NanoCPUs > 0 && have.CPUQuota > 0:
		return moss.Errorf(moss.Conflict, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case want.CPUPeriod > 0 && have.NanoCPUs > 0:
		return moss.Errorf(moss.Conflict, "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case want.CPUQuota > 0 && have.NanoCPUs > 0:
		return moss.Errorf(moss.Conflict, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case have.MemorySwap > 0 && want.Memory > have.MemorySwap && want.MemorySwap == 0:
		return moss.Errorf(moss.Conflict, "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	case want.MemorySwap > 0 && want.Memory == 0 && want.MemorySwap < have.Memory:
		return moss.Errorf(moss.Conflict, "Minimum memoryswap limit should be larger than memory limit, see usage")
	}
	return nil
}
