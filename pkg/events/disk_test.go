package events

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

func open(t *testing.T, path string) *Bus {
	t.Helper()
	b, err := Open(path, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestHistoryOverARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	start := time.Now().Add(-time.Hour)
	event := func(i int) moss.Event {
		return moss.Event{
			Type: moss.ContainerEvent, Action: "die", ActorID: strconv.Itoa(i), Attributes: map[string]string{"name": "line\n" + strconv.Itoa(i)},
			Time: start.Add(time.Duration(i) * time.Second),
		}
	}
	for run := range 3 {
		b := open(t, path)
		for i := range 10 {
			b.Publish(event(10*run + i))
		}
		if run == 1 { // killed in the middle of a write
			if err := b.disk.append([]byte(`{"time":"2026-0`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := open(t, path)
	late := moss.Event{ActorID: "late", Time: time.Now()}
	b.Publish(late)
	got, err := collect(b, 31, start, time.Time{})
	if !errors.Is(err, errStop) || got[0] != "0" || got[29] != "29" || got[30] != "late" {
		t.Fatalf("got %s, %v", got, err)
	}
	got, err = collect(b, 5, start.Add(25*time.Second), start.Add(28*time.Second))
	if err != nil || strings.Join(got, " ") != "25 26 27 28" {
		t.Errorf("between two moments: %s, %v", got, err)
	}
	err = b.Follow(t.Context(), start.Add(12*time.Second), time.Time{}, func(e moss.Event) error {
		if want := event(12); e.Type != want.Type || e.Action != want.Action || !maps.Equal(e.Attributes, want.Attributes) || !e.Time.Equal(want.Time) {
			t.Errorf("got %v, want %v", e, want)
		}
		return errStop
	})
	if !errors.Is(err, errStop) {
		t.Error(err)
	}
	if got, err := collect(b, 1, late.Time, time.Time{}); !errors.Is(err, errStop) || got[0] != "late" {
		t.Errorf("what is in memory: %s, %v", got, err)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.json")
	b := open(t, path)
	text := strings.Repeat("x", 1000)
	const n = 3 * segmentSize / 1000
	for i := range n {
		b.Publish(moss.Event{ActorID: strconv.Itoa(i), Attributes: map[string]string{"text": text}, Time: time.Unix(int64(i), 0)})
	}
	for _, p := range []string{path, path + ".1"} {
		st, err := os.Stat(p)
		if err != nil || st.Size() > segmentSize {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
	var got []int
	err := b.Follow(t.Context(), time.Unix(0, 1), time.Unix(n, 0), func(e moss.Event) error {
		i, err := strconv.Atoi(e.ActorID)
		got = append(got, i)
		return err
	})
	if err != nil || len(got) < segmentSize/1200 || got[len(got)-1] != n-1 || got[len(got)-1]-got[0] != len(got)-1 {
		t.Errorf("%d events, %v", len(got), err)
	}
}

// Where nothing can be written any more, the engine goes on with what is in memory.
func TestHistoryThatCannotBeKept(t *testing.T) {
	var told error
	b, err := Open(filepath.Join(t.TempDir(), "events.json"), func(err error) { told = errors.Join(told, err) })
	if err != nil {
		t.Fatal(err)
	}
	b.Publish(moss.Event{ActorID: "0", Time: time.Unix(1, 0)})
	if err := b.disk.file.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 4; i++ {
		b.Publish(moss.Event{ActorID: strconv.Itoa(i), Time: time.Unix(1, 0)})
	}
	got, err := collect(b, 4, time.Unix(0, 1), time.Time{})
	if !errors.Is(err, errStop) || strings.Join(got, " ") != "0 1 2 3" {
		t.Errorf("got %s, %v", got, err)
	}
	if told == nil || strings.Count(told.Error(), "keep events") != 1 {
		t.Errorf("told: %v", told)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "no", "events.json"), nil); err == nil {
		t.Error("a directory that is not there was used")
	}
}
