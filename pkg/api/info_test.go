package api

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/moby/moby/api/types/system"
)

// Info tells of the daemon itself: whether it logs at level debug, which a reload
// changes, how many files it has open and who follows events.
func TestInfoOfTheDaemon(t *testing.T) {
	level := new(slog.LevelVar)
	s, _ := newFake()
	s.log = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: level})) //nolint:sloglint // its level is what is asked for
	ask := func() (info system.Info) {
		w := do(t, s, http.MethodGet, "/info", "", "")
		if err := json.Unmarshal(w.Body.Bytes(), &info); err != nil {
			t.Fatal(err)
		}
		return info
	}
	s.o.OpenFiles = func() int { return 17 }
	s.listeners.Add(2)
	if info := ask(); info.Debug || info.NFd != 17 || info.NEventsListener != 2 {
		t.Errorf("debug %v, %d files, %d listeners", info.Debug, info.NFd, info.NEventsListener)
	}
	level.Set(slog.LevelDebug)
	if !ask().Debug {
		t.Error("the daemon logs at level debug, and info does not say so")
	}
}
