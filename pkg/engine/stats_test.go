package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestStats(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		once := func(mode moss.StatsMode) moss.Stats {
			t.Helper()
			var got []moss.Stats
			r.must(r.Views().Stats(t.Context(), "web", mode, func(s moss.Stats) error { got = append(got, s); return nil }))
			if len(got) != 1 || got[0].Name != "web" {
				t.Fatalf("%+v", got)
			}
			return got[0]
		}
		id := r.create(named("web"))
		if s := once(moss.StatsPair); s.ID != id || !s.Now.At.IsZero() {
			t.Errorf("of one that does not run: %+v", s)
		}
		r.start(id)
		began := time.Now()
		if s := once(moss.StatsOnce); s.Now.Memory == 0 || !s.Before.At.IsZero() || time.Since(began) > 0 {
			t.Errorf("%+v", s)
		}
		if s := once(moss.StatsPair); s.Now.At.Sub(s.Before.At) != time.Second || s.Now.CPU-s.Before.CPU != time.Second/10 || s.Now.Networks == nil {
			t.Errorf("%+v", s)
		}
		_, err := r.Views().Processes(t.Context(), "nobody")
		r.wantClass(err, moss.NotFound)
	})
}

// A stream goes on over the end of a run and a start, and ends with the container.
func TestStatsStream(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(named("web"), func(q *moss.CreateRequest) { q.Host.NetworkMode = moss.NetworkHost })
		var got []moss.Stats
		done := make(chan error, 1)
		go func() {
			done <- r.Views().Stats(t.Context(), "web", moss.StatsStream, func(s moss.Stats) error { got = append(got, s); return nil })
		}()
		second := func() { time.Sleep(time.Second); synctest.Wait() }
		second()
		r.exit(id, 0)
		second()
		r.start(id)
		second()
		second()
		began := time.Now()
		r.must(r.remove(id, true))
		r.must(<-done)
		if time.Since(began) >= time.Second {
			t.Error("the stream went on after the removal")
		}
		type step struct{ now, before bool }
		want := []step{{true, false}, {true, true}, {false, false}, {true, false}, {true, true}}
		if len(got) != len(want) {
			t.Fatalf("%d samples: %+v", len(got), got)
		}
		for i, s := range got {
			if (step{!s.Now.At.IsZero(), !s.Before.At.IsZero()}) != want[i] || s.Now.Networks != nil {
				t.Errorf("sample %d: %+v", i, s)
			}
		}
		stop := errors.New("the client has left")
		r.run(named("web"))
		if err := r.Views().Stats(t.Context(), "web", moss.StatsStream, func(moss.Stats) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Views().Stats(ctx, "web", moss.StatsStream, func(moss.Stats) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestProcesses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.create(named("web"))
		_, err := r.Views().Processes(t.Context(), "web")
		r.wantClass(err, moss.Conflict)
		r.start(id)
		r.must(r.pause(id))
		list, err := r.Views().Processes(t.Context(), "web")
		r.must(err)
		if len(list.Processes) != 1 || list.Processes[0].PID != r.get(id).Run.PID {
			t.Errorf("%+v", list)
		}
		r.wantActions(id, "create", "start", "pause", "top")
	})
}
