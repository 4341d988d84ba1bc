package events

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

var errStop = errors.New("stop")

func collect(b *Bus, n int, since, until time.Time) ([]string, error) {
	var got []string
	err := b.Follow(context.Background(), since, until, func(e moss.Event) error {
		got = append(got, e.ActorID)
		if len(got) == n {
			return errStop
		}
		return nil
	})
	return got, err
}

func TestSinceReplaysTheRingInOrder(t *testing.T) {
	var b Bus
	start := time.Unix(1000, 0)
	for i := range ringSize + 10 {
		b.Publish(moss.Event{ActorID: strconv.Itoa(i), Time: start.Add(time.Duration(i) * time.Second)})
	}
	got, err := collect(&b, ringSize, start, time.Time{})
	if !errors.Is(err, errStop) || got[0] != "10" || got[ringSize-1] != strconv.Itoa(ringSize+9) {
		t.Fatalf("got %s … %s, %v", got[0], got[len(got)-1], err)
	}
	got, err = collect(&b, 3, start.Add((ringSize+7)*time.Second), time.Time{})
	if !errors.Is(err, errStop) || got[0] != strconv.Itoa(ringSize+7) {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestUntilEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b Bus
		b.Publish(moss.Event{ActorID: "old"})
		go func() {
			time.Sleep(time.Second)
			b.Publish(moss.Event{ActorID: "new"})
			time.Sleep(time.Hour)
			b.Publish(moss.Event{ActorID: "late"})
		}()
		got, err := collect(&b, 9, time.Time{}, time.Now().Add(time.Minute))
		if err != nil || len(got) != 1 || got[0] != "new" {
			t.Fatalf("got %v, %v", got, err)
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestASlowReaderIsCutOffAndHoldsNobodyUp(t *testing.T) {
	var b Bus
	inside, resume := make(chan bool), make(chan bool)
	done := make(chan error)
	go func() {
		first := true
		done <- b.Follow(context.Background(), time.Unix(1, 0), time.Time{}, func(moss.Event) error {
			if first {
				first = false
				inside <- true
				<-resume
			}
			return nil
		})
	}()
	b.Publish(moss.Event{})
	<-inside
	for range queueSize + 2 {
		b.Publish(moss.Event{})
	}
	close(resume)
	if err := <-done; !errors.Is(err, ErrSlow) {
		t.Fatalf("got %v", err)
	}
}

// What happened before the end, and was told after something later, is not lost.
func TestUntilHeedsTheTimeNotTheOrder(t *testing.T) {
	var b Bus
	start := time.Unix(1000, 0)
	for _, at := range []int{1, 9, 3} {
		b.Publish(moss.Event{ActorID: strconv.Itoa(at), Time: start.Add(time.Duration(at) * time.Second)})
	}
	got, err := collect(&b, 9, start, start.Add(5*time.Second))
	if err != nil || !slices.Equal(got, []string{"1", "3"}) {
		t.Fatalf("got %v, %v", got, err)
	}
}

// What a restore tells of the time before it stands there by its time, in memory
// and on the disk; what has one time keeps the order of the telling.
func TestThePastIsInTheOrderOfItsTimes(t *testing.T) {
	path, start := filepath.Join(t.TempDir(), "events.json"), time.Now()
	b := open(t, path)
	for i, at := range []int{1, 5, 9, 3, 5, 2} {
		b.Publish(moss.Event{ActorID: strconv.Itoa(at) + string(rune('a'+i)), Time: start.Add(time.Duration(at) * time.Second)})
	}
	want := []string{"1a", "2f", "3d", "5b", "5e", "9c"}
	for name, since := range map[string]time.Time{"in memory": start, "on the disk": start.Add(-time.Hour)} {
		got, err := collect(b, 9, since, start.Add(9*time.Second))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// What fell out of the ring is read from the disk, also where it is later than the oldest there.
func TestWhatTheRingLostIsOnTheDisk(t *testing.T) {
	b, start := open(t, filepath.Join(t.TempDir(), "events.json")), time.Now()
	b.Publish(moss.Event{ActorID: "late", Time: start.Add(time.Hour)})
	for range ringSize {
		b.Publish(moss.Event{ActorID: "early", Time: start})
	}
	got, err := collect(b, 1, start.Add(time.Minute), time.Time{})
	if !errors.Is(err, errStop) || !slices.Equal(got, []string{"late"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// Where the clock was set forward and back, the history is what it said at the time,
// in memory and on the disk.
func TestHistoryWhenTheClockJumps(t *testing.T) {
	day, noon := 24*time.Hour, time.Now().Add(-time.Hour)
	path := filepath.Join(t.TempDir(), "events.json")
	b, err := Open(path, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	for i, at := range []time.Time{noon, noon.Add(day), noon.Add(time.Minute), noon.Add(-day), noon.Add(2 * time.Minute)} {
		b.Publish(moss.Event{Action: strconv.Itoa(i), Time: at})
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if b, err = Open(path, func(err error) { t.Error(err) }); err != nil {
				t.Fatal(err)
			}
		}
		var got string
		err := b.Follow(t.Context(), noon, noon.Add(time.Minute), func(e moss.Event) error { got += e.Action; return nil })
		if err != nil || got != "02" {
			t.Errorf("restarted %v: %q, %v", restarted, got, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
