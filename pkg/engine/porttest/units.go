package porttest

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// UnitsRig is what the contract of [engine.Units] is tried on. Its processes
// run until told; SIGTERM kills them.
type UnitsRig interface {
	Units() engine.Units
	// Spec describes a unit whose launcher starts a process, or fails.
	Spec(t *testing.T, id moss.ContainerID, launcherFails bool) moss.UnitSpec
	// Exit makes the unit's process end with a code.
	Exit(t *testing.T, id moss.ContainerID, code int)
	// Stop is somebody else's `systemctl --user stop`.
	Stop(t *testing.T, id moss.ContainerID)
	// Disconnect cuts the connection to the manager.
	Disconnect(t *testing.T)
}

const unitsPatience = 20 * time.Second

// Units runs the contract suite of [engine.Units]. open is called once a test.
func Units(t *testing.T, open func(t *testing.T) UnitsRig) {
	t.Run("start tells the main process", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		w := watchUnits(t, r, id)
		st := startUnit(t, r, id)
		if st.Short != id.Short() || st.Phase != moss.UnitRunning || st.PID == 0 || st.Exited || st.StartedAt.IsZero() {
			t.Errorf("status after start: %+v", st)
		}
		w.until(t, "running", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning && s.PID == st.PID })
		if got := listUnit(t, r, id); got == nil || got.PID != st.PID || got.Phase != moss.UnitRunning {
			t.Errorf("list has %+v, want pid %d running", got, st.PID)
		}
	})

	t.Run("exit codes", func(t *testing.T) {
		r := open(t)
		for _, code := range []int{0, 1, 9, 127, 255} {
			id := moss.ContainerID(moss.NewHexID())
			w := watchUnits(t, r, id)
			before := time.Now()
			pid := startUnit(t, r, id).PID
			r.Exit(t, id, code)
			st := w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded })
			if !st.Exited || st.ExitCode != code || st.PID != pid {
				t.Errorf("code %d: got %+v", code, st)
			}
			if st.ExitedAt.Before(before) || st.ExitedAt.After(time.Now()) {
				t.Errorf("code %d: ended at %v, want after %v", code, st.ExitedAt, before)
			}
			if got := listUnit(t, r, id); got == nil || got.Phase != moss.UnitEnded || !got.Exited || got.ExitCode != code {
				t.Errorf("code %d: an ended unit must stay in the list with its code until collected; list has %+v", code, got)
			}
			collectUnit(t, r, id)
			w.until(t, "gone", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitGone })
			w.inOrder(t)
		}
	})

	t.Run("kill", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		w := watchUnits(t, r, id)
		if err := r.Units().Kill(t.Context(), id, syscall.SIGTERM); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("kill of a unit that is not there: %v, want Conflict", err)
		}
		startUnit(t, r, id)
		if err := r.Units().Kill(t.Context(), id, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		st := w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded })
		if !st.Exited || st.ExitCode != 137 {
			t.Errorf("after SIGKILL: %+v, want exit code 137", st)
		}
		if err := r.Units().Kill(t.Context(), id, syscall.SIGTERM); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("kill of an ended unit: %v, want Conflict", err)
		}
	})

	t.Run("a stop by others tells the exit code", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		w := watchUnits(t, r, id)
		startUnit(t, r, id)
		w.until(t, "running", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning })
		r.Stop(t, id)
		st := w.until(t, "gone or ended", func(s moss.UnitStatus) bool {
			return s.Phase == moss.UnitGone || s.Phase == moss.UnitEnded
		})
		if !st.Exited || st.ExitCode != 143 || st.ExitedAt.IsZero() {
			t.Errorf("after a stop: %+v, want exit code 143", st)
		}
		w.inOrder(t)
	})

	t.Run("a launcher that fails leaves nothing", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		if st, err := r.Units().Start(t.Context(), r.Spec(t, id, true)); err == nil {
			t.Fatalf("started: %+v", st)
		}
		if got := listUnit(t, r, id); got != nil {
			t.Errorf("left over: %+v", got)
		}
		startUnit(t, r, id) // its name is free again
	})

	t.Run("a running unit is not started twice", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		startUnit(t, r, id)
		if _, err := r.Units().Start(t.Context(), r.Spec(t, id, false)); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("second start: %v, want Conflict", err)
		}
	})

	t.Run("collect", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		collectUnit(t, r, id) // not there: nil
		startUnit(t, r, id)
		collectUnit(t, r, id) // runs: killed
		if got := listUnit(t, r, id); got != nil {
			t.Errorf("left over: %+v", got)
		}
		startUnit(t, r, id)
		r.Exit(t, id, 3)
		collectUnit(t, r, id)
		startUnit(t, r, id)
	})

	t.Run("a watch begins with what is there and ends with its context", func(t *testing.T) {
		r, id := open(t), moss.ContainerID(moss.NewHexID())
		startUnit(t, r, id)
		w := watchUnits(t, r, id)
		w.until(t, "running", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Units().Watch(ctx, func(moss.UnitStatus) {}); err == nil {
			t.Error("a watch with an ended context returned nil")
		}
	})

	t.Run("a lost connection loses no exit", func(t *testing.T) {
		r := open(t)
		stay, end, stop := moss.ContainerID(moss.NewHexID()), moss.ContainerID(moss.NewHexID()), moss.ContainerID(moss.NewHexID())
		ws, we, wg := watchUnits(t, r, stay), watchUnits(t, r, end), watchUnits(t, r, stop)
		for _, id := range []moss.ContainerID{stay, end, stop} {
			startUnit(t, r, id)
		}
		for _, w := range []*unitWatch{ws, we, wg} {
			w.until(t, "running", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning })
		}
		ws.forget()
		r.Disconnect(t)
		r.Exit(t, end, 7)
		r.Stop(t, stop)
		if st := we.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded }); st.ExitCode != 7 || !st.Exited {
			t.Errorf("ended while the connection was away: %+v", st)
		}
		wg.until(t, "gone", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitGone || s.Phase == moss.UnitEnded })
		ws.until(t, "running", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitRunning })
	})

	t.Run("many at once", func(t *testing.T) {
		r := open(t)
		var wg sync.WaitGroup
		for i := range 12 {
			id := moss.ContainerID(moss.NewHexID())
			w := watchUnits(t, r, id)
			spec := r.Spec(t, id, false)
			wg.Go(func() {
				if _, err := r.Units().Start(t.Context(), spec); err != nil {
					t.Error(err)
					return
				}
				r.Exit(t, id, i)
				st := w.until(t, "ended", func(s moss.UnitStatus) bool { return s.Phase == moss.UnitEnded })
				if st.ExitCode != i || !st.Exited {
					t.Errorf("unit %d: %+v", i, st)
				}
				if err := r.Units().Collect(t.Context(), id); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func startUnit(t *testing.T, r UnitsRig, id moss.ContainerID) moss.UnitStatus {
	t.Helper()
	t.Cleanup(func() {
		if err := r.Units().Collect(context.WithoutCancel(t.Context()), id); err != nil {
			t.Errorf("clean-up: %v", err)
		}
	})
	st, err := r.Units().Start(t.Context(), r.Spec(t, id, false))
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func collectUnit(t *testing.T, r UnitsRig, id moss.ContainerID) {
	t.Helper()
	if err := r.Units().Collect(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func listUnit(t *testing.T, r UnitsRig, id moss.ContainerID) *moss.UnitStatus {
	t.Helper()
	all, err := r.Units().List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range all {
		if st.Short == id.Short() {
			return &st
		}
	}
	return nil
}

// unitWatch records what a Watch says of one unit.
type unitWatch struct {
	mu   sync.Mutex
	seen []moss.UnitStatus
	from int
	more chan struct{}
}

func watchUnits(t *testing.T, r UnitsRig, id moss.ContainerID) *unitWatch {
	t.Helper()
	w := &unitWatch{more: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	busy := false
	go func() {
		defer close(done)
		_ = r.Units().Watch(ctx, func(st moss.UnitStatus) { // its end is the context's
			if busy {
				t.Error("two calls at a time")
			}
			busy = true
			defer func() { busy = false }()
			if st.Short != id.Short() {
				return
			}
			w.mu.Lock()
			w.seen = append(w.seen, st)
			w.mu.Unlock()
			select {
			case w.more <- struct{}{}:
			default:
			}
		})
	}()
	return w
}

// until waits for a status and returns the first that fits.
func (w *unitWatch) until(t *testing.T, what string, fits func(moss.UnitStatus) bool) moss.UnitStatus {
	t.Helper()
	timer := time.NewTimer(unitsPatience)
	defer timer.Stop()
	for {
		w.mu.Lock()
		seen := w.seen[w.from:]
		w.mu.Unlock()
		for _, st := range seen {
			if fits(st) {
				return st
			}
		}
		select {
		case <-w.more:
		case <-timer.C:
			t.Errorf("the watch never said %s: %s", what, fmt.Sprintf("%+v", seen))
			return moss.UnitStatus{}
		}
	}
}

// forget leaves aside what was seen so far.
func (w *unitWatch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.from = len(w.seen)
}

// inOrder checks that phases only go on, and that an exit once told is told to the end.
func (w *unitWatch) inOrder(t *testing.T) {
	t.Helper()
	order := map[moss.UnitPhase]int{moss.UnitStarting: 1, moss.UnitRunning: 2, moss.UnitStopping: 3, moss.UnitEnded: 4, moss.UnitGone: 5}
	w.mu.Lock()
	defer w.mu.Unlock()
	last, exited := 0, false
	for i, st := range w.seen {
		now := order[st.Phase]
		if st.Phase == moss.UnitStopping && last == 4 {
			now = 4 // an ended unit that is collected stops formally
		}
		if now < last || exited && !st.Exited {
			t.Errorf("status %d is out of order: %+v", i, w.seen)
		}
		if i > 0 && w.seen[i-1] == st {
			t.Errorf("status %d is told twice: %+v", i, st)
		}
		last, exited = now, st.Exited
	}
}
