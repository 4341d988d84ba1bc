// Package lifecycle is the table of a container's states: which may follow
// which, and on what trigger. It is pure; the engine's commit is its one user.
package lifecycle

import (
	"fmt"

	"github.com/moss-containers/moss/pkg/moss"
)

// Trigger is what happened to a container.
type Trigger string

// The triggers.
const (
	Start       Trigger = "start"        // its process was let go
	StartFailed Trigger = "start-failed" // it never ran
	Exit        Trigger = "exit"         // its process ended, for good
	ExitRetry   Trigger = "exit-retry"   // its process ended and the restart policy will start it again
	GiveUp      Trigger = "give-up"      // a waiting restart was called off
	Pause       Trigger = "pause"
	Unpause     Trigger = "unpause"
	Remove      Trigger = "remove"        // removal has begun
	RemoveFail  Trigger = "remove-failed" // something could not be removed; it can be tried again
)

// MoveError is a move that the table does not have.
type MoveError struct {
	From    moss.State
	Trigger Trigger
}

func (e *MoveError) Error() string {
	return fmt.Sprintf("a container that is %s cannot %s", e.From, e.Trigger)
}

var table = map[moss.State]map[Trigger]moss.State{
	moss.StateCreated: {
		Start:       moss.StateRunning,
		StartFailed: moss.StateCreated,
		Remove:      moss.StateRemoving,
	},
	moss.StateRunning: {
		Exit:      moss.StateExited,
		ExitRetry: moss.StateRestarting,
		Pause:     moss.StatePaused,
	},
	moss.StatePaused: {
		Unpause:   moss.StateRunning,
		Exit:      moss.StateExited,
		ExitRetry: moss.StateRestarting,
	},
	moss.StateRestarting: {
		Start:       moss.StateRunning,
		StartFailed: moss.StateExited,
		ExitRetry:   moss.StateRestarting,
		GiveUp:      moss.StateExited,
		Remove:      moss.StateRemoving,
	},
	moss.StateExited: {
		Start:       moss.StateRunning,
		StartFailed: moss.StateExited,
		Remove:      moss.StateRemoving,
		ExitRetry:   moss.StateRestarting,
	},
	moss.StateRemoving: {
		Remove:     moss.StateRemoving, // an interrupted removal begins anew
		RemoveFail: moss.StateDead,
	},
	moss.StateDead: {
		Remove: moss.StateRemoving,
	},
}

// Next returns the state that follows from on a trigger. Errors: a *MoveError
// of class Conflict.
func Next(from moss.State, t Trigger) (moss.State, error) {
	if to, ok := table[from][t]; ok {
		return to, nil
	}
	return from, &moss.Error{Class: moss.Conflict, Err: &MoveError{From: from, Trigger: t}}
}
