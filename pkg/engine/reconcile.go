package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/lifecycle"
	"github.com/moss-containers/moss/pkg/moss"
)

// restoreWidth is how many containers are restored at a time.
const restoreWidth = 16

// letGoTimeout is how long a runtime gets to let a process go whose start was interrupted.
const letGoTimeout = 10 * time.Second

// verdict is what a record and a unit together call for.
type verdict string

const (
	leave     verdict = "leave"     // they agree
	reattach  verdict = "reattach"  // it runs: take its streams, links and ports over
	finish    verdict = "finish"    // it ended while nobody looked
	lost      verdict = "lost"      // the manager went, or the machine
	goOn      verdict = "go-on"     // a start was interrupted after all was prepared
	startOver verdict = "start"     // a start was interrupted before
	clear     verdict = "clear"     // a unit is left that should not be
	removeOn  verdict = "remove-on" // a removal was interrupted
	giveUpOn  verdict = "give-up"   // a waiting restart lost its timer
)

// judge is DESIGN.md's table: what a record says, what the unit is, and what
// follows. Units are the truth.
func judge(rec *moss.Container, st moss.UnitStatus) verdict {
	runs := st.Phase == moss.UnitRunning || (st.Phase == moss.UnitStopping && !st.Exited)
	switch rec.State {
	case moss.StateRunning, moss.StatePaused:
		switch {
		case runs && st.PID == rec.Run.PID:
			return reattach
		case st.Phase == moss.UnitGone || runs || st.Phase == moss.UnitStarting:
			return lost // also where the unit runs something that is not this run
		default:
			return finish
		}
	case moss.StateRemoving:
		return removeOn
	case moss.StateDead:
		if st.Phase != moss.UnitGone {
			return clear
		}
		return leave
	default: // it does not run; what was meant with it decides
	}
	switch {
	case rec.Intent == moss.IntentStart && rec.Network != nil && (runs || st.Phase == moss.UnitEnded) && st.PID == rec.Run.PID:
		return goOn
	case rec.Intent == moss.IntentStart:
		return startOver
	case rec.Intent == moss.IntentRemove:
		return removeOn
	case rec.State == moss.StateRestarting:
		return giveUpOn
	case st.Phase != moss.UnitGone:
		return clear
	}
	return leave
}

// Restore reads the records and brings them and the units into agreement.
// fresh says that the holder of the namespaces is new, as after a reboot: then
// the restart policies of containers that had ended before count too. What
// fails for one container is logged and stops no other. It must be called once,
// before Watch and before any service. When ctx ends, what has begun for a
// container is carried through, the rest is left to the next daemon, and the
// error is ctx's.
func (e *Engine) Restore(ctx context.Context, fresh bool) error {
	e.adoptNetworks(ctx) // first: the kernel takes its time, and the records are being decoded meanwhile
	if err := ctx.Err(); err != nil {
		return err
	}
	records, bad, err := e.Records.Load()
	if err != nil {
		return err
	}
	list, err := e.Units.List(ctx)
	if err != nil {
		return moss.Wrap(err, "list the units", "")
	}
	units := make(map[string]moss.UnitStatus, len(list))
	for _, st := range list {
		units[st.Short] = st
	}
	for key, err := range bad {
		e.Log.Error("a container's record cannot be read; it is left as it is", "container", key, "error", err)
		delete(units, moss.ContainerID(key).Short()) // its unit is nobody's orphan
	}
	e.adopt(records)
	e.keepLabels(records)

	verdicts := make(map[moss.ContainerID]verdict, len(records))
	keepNet := make(map[moss.ContainerID]moss.Attachment)
	keepStreams := make(map[moss.StreamID]bool)
	for _, rec := range records {
		v := judge(rec, units[rec.ID.Short()])
		verdicts[rec.ID] = v
		switch v {
		case reattach, goOn:
			if rec.Network != nil && !joinsNetwork(*rec.Network) {
				keepNet[rec.ID] = *rec.Network
			}
			keepStreams[rec.ID.Streams()] = true
		case finish: // what it printed last is still in its pipes
			keepStreams[rec.ID.Streams()] = true
		default: // has neither
		}
	}
	e.restoreHeld(ctx, records, bad)
	if err := e.Networks.Restore(ctx, keepNet); err != nil && ctx.Err() == nil {
		e.Log.Error("not every network could be restored", "error", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.Stdio.Forget(keepStreams); err != nil {
		e.Log.Error("stored descriptors of ended containers could not be closed", "error", err)
	}

	revive := e.restoreAll(ctx, records, units, verdicts, fresh)
	if err := ctx.Err(); err != nil {
		return err
	}
	e.removeOrphans(ctx, records, bad, units)
	e.VolumeDrivers.Settle(func(id moss.ContainerID) bool {
		c, err := e.find(string(id))
		return err == nil && c.record().State.Alive() || bad[string(id)] != nil
	})
	e.reviveAll(revive)
	return nil
}

// adopt fills the maps.
func (e *Engine) adopt(records []*moss.Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, rec := range records {
		e.containers[rec.ID] = newContainer(rec)
		e.names[rec.Name] = rec.ID
	}
}

// restoreAll carries the verdicts out, several at a time, and returns the
// containers to start.
func (e *Engine) restoreAll(ctx context.Context, records []*moss.Container, units map[string]moss.UnitStatus, verdicts map[moss.ContainerID]verdict, fresh bool) []*container {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		revive []*container
		slots  = make(chan struct{}, restoreWidth)
	)
	for _, rec := range records {
		c, err := e.find(string(rec.ID))
		if err != nil {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			// Given up half-way, a removal would leave the container dead, and a start its process without an owner.
			ctx, end := e.follow(context.WithoutCancel(ctx), "restore", c)
			start, err := e.restoreOne(ctx, c, units[rec.ID.Short()], verdicts[rec.ID], fresh)
			end(err)
			if err != nil {
				e.Log.ErrorContext(ctx, "a container could not be restored", "container", rec.Name, "verdict", verdicts[rec.ID], "error", err)
			}
			if start {
				mu.Lock()
				revive = append(revive, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return revive
}

// restoreOne carries one verdict out and says whether the container is to be
// started.
func (e *Engine) restoreOne(ctx context.Context, c *container, st moss.UnitStatus, v verdict, fresh bool) (start bool, err error) {
	if err := c.acquire(ctx); err != nil {
		return false, err
	}
	defer c.release()
	rec := c.record()
	if v != leave {
		e.Log.Info("restoring a container", "container", rec.Name, "state", rec.State, "unit", st.Phase, "verdict", string(v))
	}
	switch v {
	case reattach:
		return false, e.reattach(ctx, c, rec, st)
	case goOn:
		if err := e.finishStart(ctx, c, rec, st); err != nil {
			return false, e.startFailed(ctx, c, err, e.teardown(ctx, rec))
		}
		if !ended(st) {
			return false, nil
		}
		return e.finishLate(ctx, c, e.recall(ctx, c, st, fresh))
	case finish:
		if err := e.restoreStreams(ctx, rec); err != nil {
			e.Log.Warn("the last output of a container is lost", "container", rec.Name, "error", err)
		}
		return e.finishLate(ctx, c, e.recall(ctx, c, st, fresh))
	case lost:
		st = moss.UnitStatus{Phase: st.Phase}
		if st.Phase == moss.UnitGone { // what else runs in it is not this run
			st = e.recall(ctx, c, st, fresh)
		}
		return e.finishLate(ctx, c, st)
	case startOver:
		return rec.Intent == moss.IntentStart, e.teardown(ctx, rec)
	case clear:
		return false, e.teardown(ctx, rec)
	case removeOn:
		err := e.teardown(ctx, rec)
		return false, errors.Join(err, e.remove(ctx, c))
	case giveUpOn:
		return true, e.teardown(ctx, rec)
	case leave:
		if !fresh { // a copy may have been going on
			if err := e.unmount(ctx, rec.ID); err != nil {
				e.Log.Error("a container stays mounted", "container", rec.Name, "error", err)
				c.update(func() { c.unclean = true })
			}
		}
	}
	ran := rec.State == moss.StateExited && !rec.Run.StartedAt.IsZero()
	if rec.Host.AutoRemove && ran { // the daemon died between the end and the removal
		return false, e.remove(ctx, c)
	}
	if !fresh || !ran || !shouldRevive(rec.Host.RestartPolicy, rec) {
		return false, nil
	}
	return true, e.due(c)
}

// due makes a container wait for its start. Another daemon of this boot would
// find it so; after the next boot its policy speaks anew.
func (e *Engine) due(c *container) error {
	rec, err := moved(c.record(), lifecycle.ExitRetry, nil)
	if err != nil {
		return err
	}
	if err := e.Records.Put(rec, false); err != nil {
		return err
	}
	c.update(func() { c.rec = rec })
	return nil
}

// finishLate deals with the end of a run that no daemon has seen, and with what
// was to follow it; it says whether that is a start.
func (e *Engine) finishLate(ctx context.Context, c *container, st moss.UnitStatus) (start bool, err error) {
	rec, _ := e.finishRun(ctx, c, st)
	switch {
	case isDue(rec):
		return true, nil
	case rec.Host.AutoRemove || rec.Intent == moss.IntentRemove:
		return false, e.remove(ctx, c)
	}
	return false, nil
}

// reattach takes a running container over.
func (e *Engine) reattach(ctx context.Context, c *container, rec *moss.Container, st moss.UnitStatus) error {
	if rec.State == moss.StatePaused && !st.Frozen { // an unpause was interrupted, or systemctl thawed it
		e.unpaused(c, false)
	}
	if err := e.letGoUnlessHeld(ctx, c); err != nil {
		e.Log.Error("a container stands still since a commit that the daemon did not survive; it is tried again to let it go", "container", rec.Name, "error", err)
	}
	if err := e.finishUpdate(ctx, c); err != nil {
		e.Log.Error("an interrupted update could not be finished", "container", rec.Name, "error", err)
	}
	if newKills(rec, st) {
		e.recall(ctx, c, st, false)
	}
	lost := e.restoreStreams(ctx, rec) // what is meant with it is done all the same
	e.refreshLinks(ctx, c.record(), "")
	e.resumeHealth(ctx, c)
	if goOn := e.ending(c, rec); goOn != nil {
		e.spawn(func(ctx context.Context) {
			if err := goOn(ctx); err != nil {
				e.Log.Error("the interrupted end of a container could not be finished", "container", rec.Name, "intent", string(rec.Intent), "error", err)
			}
		})
	}
	return lost
}

// ending is how the end of a run goes on that a daemon before has begun, with its full time.
func (e *Engine) ending(c *container, rec *moss.Container) func(context.Context) error {
	var asked moss.StopOptions
	if rec.StopAs != nil {
		asked = *rec.StopAs
	}
	switch rec.Intent {
	case moss.IntentStop:
		return func(ctx context.Context) error {
			_, err := e.end(ctx, c, asked, ending{intent: moss.IntentStop})
			return err
		}
	case moss.IntentRestart:
		return func(ctx context.Context) error { return e.restart(ctx, c, asked) }
	case moss.IntentRemove:
		return func(ctx context.Context) error {
			return e.Containers().removeRef(ctx, string(c.id), true, rec.RemoveVolumes)
		}
	default:
		return nil
	}
}

func (e *Engine) restoreStreams(ctx context.Context, rec *moss.Container) error {
	sink, err := e.Logs.Open(rec)
	if err != nil {
		return err
	}
	err = e.Stdio.Restore(ctx, rec.ID.Streams(), stdioSpec(rec), sink)
	if err != nil && sink != nil {
		err = errors.Join(err, sink.Close())
	}
	return moss.Wrap(err, "take over the streams of", rec.Name)
}

// finishStart goes on where a start was interrupted: all is prepared, and the
// process may or may not have been let go; or it has ended already.
func (e *Engine) finishStart(ctx context.Context, c *container, rec *moss.Container, st moss.UnitStatus) error {
	if err := e.restoreStreams(ctx, rec); err != nil {
		return err
	}
	if st.Phase == moss.UnitRunning {
		starting, cancel := context.WithTimeout(ctx, letGoTimeout) // the others wait for it
		err := e.Runtime.Start(starting, rec)
		cancel()
		if err != nil && moss.ClassOf(err) != moss.Conflict {
			return moss.Wrap(err, "start", rec.Name)
		}
	}
	at := st.StartedAt
	if at.IsZero() {
		at = time.Now()
	}
	return e.started(c, *rec.Network, rec.Run.PID, rec.Run.Restarts, at)
}

// revive starts a container that its policy or an interrupted start wants to
// run.
func (e *Engine) revive(ctx context.Context, c *container) {
	if err := c.acquire(ctx); err != nil {
		return
	}
	defer c.release()
	rec := c.record()
	if c.isRemoved() || !isDue(rec) { // somebody was faster, or has called it off
		return
	}
	restarts := rec.Run.Restarts
	if rec.State == moss.StateRestarting {
		restarts++
	}
	if err := e.start(ctx, c, restarts); err != nil {
		e.Log.Error("a container could not be started again", "container", rec.Name, "error", err)
	}
}
