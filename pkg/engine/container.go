package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moss-containers/moss/pkg/lifecycle"
	"github.com/moss-containers/moss/pkg/moss"
)

// container is one container in the engine. Its record is immutable: a change
// makes a new one, so readers need no lock beyond the look at the pointer.
type container struct {
	id moss.ContainerID

	// turn is the one lock of the container. Who holds it may change the
	// record; it is held over the steps of one operation (mounts, bus calls),
	// never while waiting for the container's process or for a timer.
	turn chan struct{}

	mu      sync.Mutex // guards what follows, for a look or a change only
	rec     *moss.Container
	changed chan struct{} // closed at the next change
	exits   int           // runs that ended since the daemon started
	halts   int           // those of them that no restart by the policy followed
	code    int           // exit code of the last of them
	removed bool
	// byManager is the pid of the run that the manager is stopping, by a job of its own.
	byManager int
	// keep counts the restarts under way, during which an exit does not remove the container.
	keep int
	// retries counts the failures in a row, for the back-off.
	retries int
	// readings are who reads its files: meanwhile it is not removed.
	readings map[*reading]struct{}
	// lookers counts those who need its root file system mounted, besides its process.
	lookers int
	// holders counts those who want its processes to stand still.
	holders int
	// needsVolumes: what its volumes need is mounted for it. Its state does not say so:
	// of two that end at once each would take the other for alive.
	needsVolumes bool
	// unclean: something of an earlier run could not be torn down yet.
	unclean bool
}

func newContainer(rec *moss.Container) *container {
	return &container{
		id: rec.ID, turn: make(chan struct{}, 1), rec: rec, changed: make(chan struct{}), readings: make(map[*reading]struct{}),
		needsVolumes: rec.State.Alive() || rec.Intent == moss.IntentStart, // what the daemon before had mounted
	}
}

func (c *container) acquire(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *container) release() { <-c.turn }

func (c *container) record() *moss.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec
}

func (c *container) isRemoved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.removed
}

// snapshot is what a waiter looks at: the record, what is counted of ended runs,
// whether the container is gone, and a channel that the next change closes.
type snapshot struct {
	rec     *moss.Container
	exits   int
	halts   int
	code    int
	removed bool
	read    bool // someone reads its files
	changed <-chan struct{}
}

func (c *container) snapshot() snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return snapshot{rec: c.rec, exits: c.exits, halts: c.halts, code: c.code, removed: c.removed, read: len(c.readings) > 0, changed: c.changed}
}

// update changes fields under the short lock and wakes the waiters.
func (c *container) update(fn func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fn()
	close(c.changed)
	c.changed = make(chan struct{})
}

// await returns nil when ok holds, or the error of ctx.
func (c *container) await(ctx context.Context, ok func(snapshot) bool) (snapshot, error) {
	for {
		s := c.snapshot()
		if ok(s) {
			return s, nil
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// commit moves a container to the state that follows on a trigger: lifecycle,
// then the record, durable unless it dies with the boot anyway, then memory
// and the waiters. The caller holds the turn and publishes the events after.
func (e *Engine) commit(c *container, t lifecycle.Trigger, change func(*moss.Container)) (*moss.Container, error) {
	rec, err := moved(c.record(), t, change)
	if err != nil {
		return rec, err
	}
	if err := e.Records.Put(rec, !rec.Host.AutoRemove); err != nil {
		return rec, err
	}
	c.update(func() { c.rec = rec })
	return rec, nil
}

// commitFact is commit for what has happened whether or not it can be
// written: the record store's failure is logged, the fact counts until the next
// boot where that can be kept, and the units, which are the truth, will tell
// again after a restart.
func (e *Engine) commitFact(c *container, t lifecycle.Trigger, change func(*moss.Container), also func()) (*moss.Container, error) {
	rec, err := moved(c.record(), t, change)
	if err != nil {
		return rec, err
	}
	durable := !rec.Host.AutoRemove
	err = e.Records.Put(rec, durable)
	if err != nil && durable { // a disk that fails; the volatile record is in memory
		err = errors.Join(err, e.Records.Put(rec, false))
	}
	if err != nil {
		e.Log.Error("a container's record could not be written", "container", rec.Name, "error", err)
	}
	c.update(func() {
		c.rec = rec
		if also != nil {
			also()
		}
	})
	return rec, nil
}

// rewrite changes a record for good, without a change of state; the caller holds the turn.
func (e *Engine) rewrite(c *container, change func(*moss.Container)) error {
	rec := *c.record()
	change(&rec)
	if err := e.Records.Put(&rec, !rec.Host.AutoRemove); err != nil {
		return err
	}
	c.update(func() { c.rec = &rec })
	return nil
}

// note keeps what the engine is about to do, so that the next daemon can
// finish it. It need not outlive the boot.
func (e *Engine) note(c *container, change func(*moss.Container)) error {
	rec := *c.record()
	change(&rec)
	if err := e.Records.Put(&rec, false); err != nil {
		return err
	}
	c.update(func() { c.rec = &rec })
	return nil
}

// noteFact is note for what the user has said: it counts whether or not it can
// be written.
func (e *Engine) noteFact(c *container, change func(*moss.Container)) {
	rec := *c.record()
	change(&rec)
	if err := e.Records.Put(&rec, false); err != nil {
		e.Log.Error("a container's record could not be written", "container", rec.Name, "error", err)
	}
	c.update(func() { c.rec = &rec })
}

func moved(from *moss.Container, t lifecycle.Trigger, change func(*moss.Container)) (*moss.Container, error) {
	next, err := lifecycle.Next(from.State, t)
	if err != nil {
		return from, moss.Wrap(err, string(t), from.Name)
	}
	rec := *from
	rec.State = next
	rec.Intent, rec.Ended, rec.StopAs = moss.IntentNone, nil, nil
	if change != nil {
		change(&rec)
	}
	return &rec, nil
}

// cleanupTimeout bounds one clean-up: it must not hang on a broken helper.
const cleanupTimeout = 30 * time.Second

// startTimeout bounds one start.
const startTimeout = 2 * time.Minute
