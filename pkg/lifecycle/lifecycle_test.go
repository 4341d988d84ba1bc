package lifecycle

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

var (
	states   = []moss.State{moss.StateCreated, moss.StateRunning, moss.StatePaused, moss.StateRestarting, moss.StateExited, moss.StateRemoving, moss.StateDead}
	triggers = []Trigger{Start, StartFailed, Exit, ExitRetry, GiveUp, Pause, Unpause, Remove, RemoveFail}
)

func TestEveryMoveIsKnownOrATypedConflict(t *testing.T) {
	for _, s := range states {
		for _, tr := range triggers {
			to, err := Next(s, tr)
			if err == nil {
				if !slices.Contains(states, to) {
					t.Errorf("%s --%s--> unknown state %q", s, tr, to)
				}
				continue
			}
			var move *MoveError
			if !errors.As(err, &move) || move.From != s || move.Trigger != tr || moss.ClassOf(err) != moss.Conflict {
				t.Errorf("%s --%s--> %v: not a typed conflict", s, tr, err)
			}
			if to != s {
				t.Errorf("%s --%s--> refused, yet %s", s, tr, to)
			}
		}
	}
}

func TestPromises(t *testing.T) {
	for _, s := range states {
		if to, err := Next(s, Start); err == nil && to != moss.StateRunning {
			t.Errorf("%s: a started container is %s", s, to)
		}
		if _, err := Next(s, Remove); (err == nil) == s.Alive() {
			t.Errorf("%s: only a container without a process can be removed", s)
		}
		if _, err := Next(s, Exit); (err == nil) != s.Alive() {
			t.Errorf("%s: only a live container can exit", s)
		}
	}
}

func TestEveryStateCanBeReachedAndRemoved(t *testing.T) {
	reached := map[moss.State]bool{moss.StateCreated: true}
	for range states {
		for s := range reached {
			for _, tr := range triggers {
				if to, err := Next(s, tr); err == nil {
					reached[to] = true
				}
			}
		}
	}
	for _, s := range states {
		if !reached[s] {
			t.Errorf("no way leads to %s", s)
		}
	}
}

// Whatever happens in whatever order: what is refused changes nothing, a container
// that is being removed never lives again, and each can be removed in the end.
func TestWalks(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		at, doomed := moss.StateCreated, false
		for step := range 60 {
			tr := triggers[rnd.IntN(len(triggers))]
			to, err := Next(at, tr)
			if err != nil && to != at {
				t.Fatalf("seed %d, step %d: %s is refused for %s, which becomes %s", seed, step, tr, at, to)
			}
			doomed = doomed || to == moss.StateRemoving
			if doomed && to != moss.StateRemoving && to != moss.StateDead {
				t.Fatalf("seed %d, step %d: %s --%s--> %s, although it is being removed", seed, step, at, tr, to)
			}
			at = to
		}
		if at.Alive() {
			at, _ = Next(at, Exit)
		}
		if to, err := Next(at, Remove); err != nil || to != moss.StateRemoving {
			t.Fatalf("seed %d: %s cannot be removed: %v", seed, at, err)
		}
	}
}
