package lifecycle

import (
	"errors"
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
