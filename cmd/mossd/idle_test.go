package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwaitIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		busyUntil, printed := begun.Add(25*time.Second), begun.Add(40*time.Second)
		d := &daemon{log: slog.New(slog.DiscardHandler), sources: []idleSource{
			{"clients", func() (time.Time, bool) { return time.Time{}, time.Now().After(busyUntil) }},
			{"output", func() (time.Time, bool) {
				if time.Now().Before(printed) {
					return time.Time{}, true
				}
				return printed, true
			}},
		}}
		if err := d.awaitIdle(t.Context(), 20*time.Second); !errors.Is(err, errIdle) {
			t.Fatal(err)
		}
		// Busy until 25 s, seen at the latest an eighth of the time late; the output
		// comes before 20 s of quiet are over.
		if took := time.Since(begun); took != 60*time.Second {
			t.Errorf("idle after %s, want a minute", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := d.awaitIdle(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
