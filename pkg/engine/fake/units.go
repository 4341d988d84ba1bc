package fake

import (
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var (
	_ engine.Units   = (*Units)(nil)
	_ engine.Limiter = (*Units)(nil)
	_ engine.Freezer = (*Units)(nil)

	_ engine.UnitHistory   = (*Units)(nil)
	_ engine.DeviceChecker = (*Units)(nil)
)

// Units is a user manager in memory. Processes run until Exit, Stop or Kill.
type Units struct {
	// OnStart, when set, is asked before a unit starts; its error is that of a launcher that failed.
	OnStart func(moss.UnitSpec) error
	// Ignore, when set, says which signals a process survives; SIGKILL is not asked for.
	Ignore func(id moss.ContainerID, sig syscall.Signal) bool
	// OnFreeze, when set, is asked before a unit is frozen or thawed; it must not call the Units.
	OnFreeze func(id moss.ContainerID, frozen bool) error

	mu       sync.Mutex
	units    map[string]*moss.UnitStatus
	specs    map[string]moss.UnitSpec
	pending  map[string]syscall.Signal // the first deadly one that came while it was frozen
	past     map[string][]unitEvent
	watchers map[*unitsWatcher]struct{}
	pid      int
}

// unitEvent is an entry of the journal: processes were killed for want of memory, or else the unit was stopped.
type unitEvent struct {
	at  time.Time
	oom bool
}

type unitsWatcher struct {
	queue []moss.UnitStatus
	ready chan struct{}
}

// NewUnits returns a manager without units.
func NewUnits() *Units {
	return &Units{
		units: map[string]*moss.UnitStatus{}, specs: map[string]moss.UnitSpec{}, pending: map[string]syscall.Signal{},
		watchers: map[*unitsWatcher]struct{}{}, past: map[string][]unitEvent{}, pid: 1000,
	}
}

// Start implements engine.Units.
func (u *Units) Start(ctx context.Context, spec moss.UnitSpec) (moss.UnitStatus, error) {
	if err := ctx.Err(); err != nil {
		return moss.UnitStatus{}, err
	}
	short := spec.ID.Short()
	u.mu.Lock()
	if st := u.units[short]; st != nil && st.Phase != moss.UnitEnded {
		defer u.mu.Unlock()
		return moss.UnitStatus{}, moss.Wrap(moss.Errorf(moss.Conflict, "the unit is there already, %s", st.Phase), "start unit", short)
	}
	st := &moss.UnitStatus{Short: short, Phase: moss.UnitStarting, Result: "success"}
	u.units[short], u.specs[short] = st, spec
	u.tellLocked(*st)
	u.mu.Unlock()

	var err error
	if u.OnStart != nil {
		err = u.OnStart(spec)
	}

	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		u.goneLocked(short, "exit-code")
		return moss.UnitStatus{}, moss.Wrap(err, "start unit", short)
	}
	u.pid++
	st.Phase, st.PID, st.StartedAt = moss.UnitRunning, u.pid, time.Now()
	u.tellLocked(*st)
	return *st, nil
}

// Kill implements engine.Units.
func (u *Units) Kill(_ context.Context, id moss.ContainerID, sig syscall.Signal) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.units[id.Short()]
	if st == nil || (st.PID == 0 || st.Exited) {
		return moss.Wrap(moss.Errorf(moss.Conflict, "it has no main process"), "signal unit", id.Short())
	}
	switch {
	case !u.dies(id, sig):
	case st.Frozen && sig != syscall.SIGKILL:
		if u.pending[id.Short()] == 0 {
			u.pending[id.Short()] = sig
		}
	default:
		u.exitLocked(id.Short(), 128+int(sig), "signal")
	}
	return nil
}

// dies says whether a signal ends a process. Those that do nothing by default do not.
func (u *Units) dies(id moss.ContainerID, sig syscall.Signal) bool {
	switch sig {
	case syscall.SIGKILL:
		return true
	case 0, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH, syscall.SIGSTOP, syscall.SIGTSTP:
		return false
	default:
		return u.Ignore == nil || !u.Ignore(id, sig)
	}
}

// Freeze implements engine.Freezer.
func (u *Units) Freeze(ctx context.Context, id moss.ContainerID) error {
	return u.freeze(ctx, id, "freeze unit", true)
}

// Thaw implements engine.Freezer.
func (u *Units) Thaw(ctx context.Context, id moss.ContainerID) error {
	return u.freeze(ctx, id, "thaw unit", false)
}

func (u *Units) freeze(ctx context.Context, id moss.ContainerID, op string, frozen bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := ctx.Err()
	if u.OnFreeze != nil && err == nil {
		err = u.OnFreeze(id, frozen)
	}
	if err != nil {
		return moss.Wrap(err, op, id.Short())
	}
	st := u.units[id.Short()]
	if st == nil || st.Phase != moss.UnitRunning {
		return moss.Wrap(moss.Errorf(moss.Conflict, "it does not run"), op, id.Short())
	}
	if st.Frozen != frozen {
		st.Frozen = frozen
		u.tellLocked(*st)
	}
	if sig := u.pending[id.Short()]; sig != 0 && !frozen {
		u.exitLocked(id.Short(), 128+int(sig), "signal")
	}
	return nil
}

// Limit implements engine.Limiter; Spec tells of it.
func (u *Units) Limit(_ context.Context, id moss.ContainerID, r moss.Resources) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	st, spec := u.units[id.Short()], u.specs[id.Short()]
	if st == nil || st.Phase != moss.UnitRunning {
		return moss.Wrap(moss.Errorf(moss.Conflict, "it does not run"), "set the limits of unit", id.Short())
	}
	spec.Resources = r
	u.specs[id.Short()] = spec
	return nil
}

// Collect implements engine.Units.
func (u *Units) Collect(_ context.Context, id moss.ContainerID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	short := id.Short()
	st := u.units[short]
	if st == nil {
		return nil
	}
	if st.PID != 0 && !st.Exited {
		u.exitLocked(short, 128+int(syscall.SIGKILL), "signal")
	}
	u.goneLocked(short, st.Result)
	return nil
}

// List implements engine.Units.
func (u *Units) List(context.Context) ([]moss.UnitStatus, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []moss.UnitStatus
	for _, st := range u.units {
		all = append(all, *st)
	}
	return all, nil
}

// Watch implements engine.Units.
func (u *Units) Watch(ctx context.Context, fn func(moss.UnitStatus)) error {
	w := &unitsWatcher{ready: make(chan struct{}, 1)}
	u.mu.Lock()
	u.watchers[w] = struct{}{}
	for _, st := range u.units {
		w.putLocked(*st)
	}
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.watchers, w)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.ready:
		}
		u.mu.Lock()
		queue := w.queue
		w.queue = nil
		u.mu.Unlock()
		for _, st := range queue {
			fn(st)
		}
	}
}

// Exit ends a unit's process.
func (u *Units) Exit(id moss.ContainerID, code int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	result := "exit-code"
	if code == 0 {
		result = "success"
	}
	u.exitLocked(id.Short(), code, result)
}

// OOMInside kills a process of a unit beside its main one, as the kernel does when memory is short.
func (u *Units) OOMInside(id moss.ContainerID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if st := u.units[id.Short()]; st != nil && st.PID != 0 && !st.Exited {
		st.OOMKills++
		u.past[id.Short()] = append(u.past[id.Short()], unitEvent{time.Now(), true})
		u.tellLocked(*st)
	}
}

// OOM ends a unit's process as the kernel does when memory is short.
func (u *Units) OOM(id moss.ContainerID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if st := u.units[id.Short()]; st != nil && st.PID != 0 && !st.Exited {
		st.OOMKills++
		u.past[id.Short()] = append(u.past[id.Short()], unitEvent{time.Now(), true})
		u.exitLocked(id.Short(), 128+int(syscall.SIGKILL), "oom-kill")
	}
}

// UnseenOOM is OOM of which the manager has the signal alone, as where no daemon counts.
func (u *Units) UnseenOOM(id moss.ContainerID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.past[id.Short()] = append(u.past[id.Short()], unitEvent{time.Now(), true})
	u.exitLocked(id.Short(), 128+int(syscall.SIGKILL), "signal")
}

// Past implements engine.UnitHistory.
func (u *Units) Past(ctx context.Context, id moss.ContainerID, since time.Time) (p moss.UnitPast, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.past[id.Short()] {
		switch {
		case e.at.Before(since):
		case e.oom:
			p.OOMKills, p.OOMAt = p.OOMKills+1, e.at
		default:
			p.StoppedAt = e.at
		}
	}
	return p, ctx.Err()
}

// Stop is what systemctl stop does: the stop signal, SIGKILL where that is
// survived, and the unit is gone.
func (u *Units) Stop(id moss.ContainerID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	short := id.Short()
	st := u.units[short]
	if st == nil {
		return
	}
	st.Phase = moss.UnitStopping
	u.tellLocked(*st)
	if st.PID != 0 && !st.Exited {
		sig := u.specs[short].StopSignal
		if sig == 0 {
			sig = syscall.SIGTERM
		}
		if !u.dies(id, sig) {
			sig = syscall.SIGKILL
		}
		u.endLocked(st, 128+int(sig), "success")
	}
	u.past[short] = append(u.past[short], unitEvent{at: time.Now()})
	u.goneLocked(short, st.Result)
}

// StopFailing is Stop of a process that ends with a code which is none of success: the unit stays.
func (u *Units) StopFailing(id moss.ContainerID, code int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.past[id.Short()] = append(u.past[id.Short()], unitEvent{at: time.Now()})
	u.exitLocked(id.Short(), code, "exit-code")
}

// Spec returns what a unit was last started with.
func (u *Units) Spec(id moss.ContainerID) (moss.UnitSpec, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.specs[id.Short()]
	return s, ok
}

// Retell tells every unit's status again, as after a lost connection.
func (u *Units) Retell() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, st := range u.units {
		u.tellLocked(*st)
	}
}

func (u *Units) exitLocked(short string, code int, result string) {
	st := u.units[short]
	if st == nil || (st.PID == 0 || st.Exited) {
		return
	}
	u.endLocked(st, code, result)
	if code != 0 { // the manager stops what is left of a unit that fails
		st.Phase = moss.UnitStopping
		u.tellLocked(*st)
	}
	st.Phase = moss.UnitEnded
	u.tellLocked(*st)
}

func (u *Units) endLocked(st *moss.UnitStatus, code int, result string) {
	delete(u.pending, st.Short)
	st.Exited, st.ExitCode, st.ExitedAt, st.Result = true, code, time.Now(), result
	st.Frozen = false
}

func (u *Units) goneLocked(short, result string) {
	st := u.units[short]
	delete(u.units, short)
	st.Phase, st.Result = moss.UnitGone, result
	u.tellLocked(*st)
}

func (u *Units) tellLocked(st moss.UnitStatus) {
	for w := range u.watchers {
		w.putLocked(st)
	}
}

func (w *unitsWatcher) putLocked(st moss.UnitStatus) {
	w.queue = append(w.queue, st)
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// LauncherFails makes OnStart fail for specs whose first argument is "fail".
func LauncherFails(spec moss.UnitSpec) error {
	if len(spec.Launch.Args) > 0 && strings.HasSuffix(spec.Launch.Args[0], "fail") {
		return moss.Errorf(moss.Internal, "the launcher failed")
	}
	return nil
}

// CheckDevices implements engine.DeviceChecker.
func (u *Units) CheckDevices(limits []moss.DeviceLimit) error {
	for _, l := range limits {
		if st, err := os.Stat(l.Device); err != nil || st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0 {
			return moss.Errorf(moss.Invalid, "no block device: %s", l.Device)
		}
	}
	return nil
}
