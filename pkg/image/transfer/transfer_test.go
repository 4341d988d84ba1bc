package transfer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// seen collects reports.
type seen struct {
	mu  sync.Mutex
	all []string
}

func (s *seen) add(p moss.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, fmt.Sprintf("%s %s %d", p.ID, p.Status, p.Current))
}

func (s *seen) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// In a synctest bubble a goroutine that is left when the test returns fails it.

func TestSharedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{}, nil)
		var runs atomic.Int32
		goOn := make(chan struct{})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				v, err := Do(t.Context(), m, "k", nil, func(context.Context, func(moss.Progress)) (int, error) {
					runs.Add(1)
					<-goOn
					return 7, nil
				})
				if v != 7 || err != nil {
					t.Errorf("Do is %d, %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		wg.Wait()
		if runs.Load() != 1 {
			t.Errorf("it ran %d times", runs.Load())
		}
		// What is over is not joined.
		_, err := Do(t.Context(), m, "k", nil, func(context.Context, func(moss.Progress)) (int, error) { runs.Add(1); return 0, nil })
		if err != nil || runs.Load() != 2 || len(m.running) != 0 {
			t.Errorf("the second time: %d runs, %v, %d still known", runs.Load(), err, len(m.running))
		}
	})
}

func TestErrorIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{}, nil)
		broken := errors.New("broken")
		goOn := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := Do(t.Context(), m, "k", nil, func(context.Context, func(moss.Progress)) (string, error) {
					<-goOn
					return "", broken
				})
				if !errors.Is(err, broken) {
					t.Errorf("Do is %v", err)
				}
			})
		}
		synctest.Wait()
		close(goOn)
		wg.Wait()
	})
}

func TestPanicIsAnError(t *testing.T) {
	m := New(Limits{}, nil)
	for name, fn := range map[string]func(context.Context, func(moss.Progress)) (int, error){
		"panic": func(context.Context, func(moss.Progress)) (int, error) { panic("ouch") },
		"exit":  func(context.Context, func(moss.Progress)) (int, error) { runtime.Goexit(); return 0, nil },
	} {
		_, err := Do(t.Context(), m, "k", nil, fn)
		if err == nil || name == "panic" && !strings.Contains(err.Error(), "ouch") {
			t.Errorf("%s: Do is %v", name, err)
		}
	}
	if len(m.running) != 0 {
		t.Error("a run is still known")
	}
}

// One who leaves does not disturb the others; when the last leaves fn ends, and Do waits for that.
func TestLastOneCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{}, nil)
		var ended atomic.Bool
		fn := func(ctx context.Context, _ func(moss.Progress)) (int, error) {
			<-ctx.Done()
			time.Sleep(time.Second) // cleaning up
			ended.Store(true)
			return 0, ctx.Err()
		}
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		defer leaveSecond()
		done := make(chan error, 2)
		go func() { _, err := Do(first, m, "k", nil, fn); done <- err }()
		synctest.Wait()
		go func() { _, err := Do(second, m, "k", nil, fn); done <- err }()
		synctest.Wait()
		leaveFirst() // the one that began it
		if err := <-done; !errors.Is(err, context.Canceled) || ended.Load() {
			t.Errorf("the first leaves: %v, ended %v", err, ended.Load())
		}
		leaveSecond()
		synctest.Wait()
		// One who comes while the work is being cancelled has nothing to do with it.
		v, err := Do(t.Context(), m, "k", nil, func(context.Context, func(moss.Progress)) (int, error) { return 5, nil })
		if v != 5 || err != nil || ended.Load() {
			t.Errorf("one who comes late gets %d, %v", v, err)
		}
		if err := <-done; !errors.Is(err, context.Canceled) || !ended.Load() {
			t.Errorf("the second leaves: %v, ended %v", err, ended.Load())
		}
	})
}

func TestJoinLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{}, nil)
		goOn := make(chan struct{})
		fn := func(_ context.Context, report func(moss.Progress)) (int, error) {
			report(moss.Progress{ID: "a", Status: "Waiting"})
			report(moss.Progress{ID: "a", Status: "Downloading", Current: 1})
			report(moss.Progress{ID: "b", Status: "Waiting"})
			report(moss.Progress{ID: "a", Status: "Downloading", Current: 2})
			<-goOn
			report(moss.Progress{ID: "a", Status: "Downloading", Current: 3})
			report(moss.Progress{ID: "a", Status: "Pull complete"})
			return 0, nil
		}
		var early, late seen
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = Do(t.Context(), m, "k", early.add, fn) })
		synctest.Wait()
		wg.Go(func() { _, _ = Do(t.Context(), m, "k", late.add, fn) })
		synctest.Wait()
		if got := late.list(); !slices.Equal(got, []string{"a Downloading 2", "b Waiting 0"}) {
			t.Errorf("the late one first sees %q", got)
		}
		close(goOn)
		wg.Wait()
		if got := late.list(); !slices.Equal(got[2:], []string{"a Downloading 3", "a Pull complete 0"}) {
			t.Errorf("the late one then sees %q", got[2:])
		}
		if got := early.list(); got[len(got)-1] != "a Pull complete 0" {
			t.Errorf("the early one sees %q", got)
		}
	})
}

// A reader that hangs stops nobody, and sees each change of status in the end.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{}, nil)
		const reports = 100_000
		fn := func(_ context.Context, report func(moss.Progress)) (int, error) {
			for i := range reports {
				report(moss.Progress{ID: fmt.Sprint("l", i%3), Status: "Downloading", Current: int64(i)})
			}
			for i := range 3 {
				report(moss.Progress{ID: fmt.Sprint("l", i), Status: "Pull complete"})
			}
			report(moss.Progress{Status: "Digest: x"})
			report(moss.Progress{Status: "Status: y"})
			return 0, nil
		}
		var slow, fast seen
		goOn := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			first := true
			_, _ = Do(t.Context(), m, "k", func(p moss.Progress) {
				if first {
					<-goOn
					first = false
				}
				slow.add(p)
			}, fn)
		})
		wg.Go(func() { _, _ = Do(t.Context(), m, "k", fast.add, fn) })
		synctest.Wait() // the fast one is through
		if got := fast.list(); len(got) == 0 || got[len(got)-1] != " Status: y 0" {
			t.Errorf("the fast one sees %d lines, not to the end", len(got))
		}
		close(goOn)
		wg.Wait()
		got := slow.list()
		if n := len(got); n > 20 || !slices.Equal(got[n-5:], []string{"l0 Pull complete 0", "l1 Pull complete 0", "l2 Pull complete 0", " Digest: x 0", " Status: y 0"}) {
			t.Errorf("the slow one sees %d lines: %q", len(got), got)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{Downloads: 2, Uploads: 1}, nil)
		for name, c := range map[string]struct {
			take  func(context.Context, ...func()) (func(), error)
			limit int32
		}{"down": {m.Download, 2}, "up": {m.Upload, 1}} {
			var now, most, waited atomic.Int32
			var wg sync.WaitGroup
			for range 9 {
				wg.Go(func() {
					release, err := c.take(t.Context(), func() { waited.Add(1) })
					if err != nil {
						t.Error(err)
						return
					}
					for n := now.Add(1); n > most.Load(); {
						most.Store(n)
					}
					time.Sleep(time.Second)
					now.Add(-1)
					release()
					release() // does no harm
				})
			}
			wg.Wait()
			if most.Load() != c.limit || waited.Load() != 9-c.limit {
				t.Errorf("%s: %d at a time, %d waited", name, most.Load(), waited.Load())
			}
		}
		// One that gives up waiting takes nothing away.
		a, _ := m.Upload(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := m.Upload(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a slot ends with %v", err)
		}
		a()
		if _, err := m.Upload(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := m.Download(ctx); err == nil {
			t.Error("a slot for one who has left")
		}
	})
}

func TestRetry(t *testing.T) {
	again, final := errors.New("again"), errors.New("final")
	retryable := func(err error) (time.Duration, bool) { return 0, errors.Is(err, again) }
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{Attempts: 4}, nil)
		calls := func(errs ...error) (int, time.Duration, error) {
			n, begin := 0, time.Now()
			err := m.Retry(t.Context(), retryable, nil, func(attempt int) error {
				if n++; n != attempt {
					t.Errorf("call %d is attempt %d", n, attempt)
				}
				return errs[min(n, len(errs))-1]
			})
			return n, time.Since(begin), err
		}
		if n, d, err := calls(nil); n != 1 || err != nil || d > 0 {
			t.Errorf("success: %d calls in %v, %v", n, d, err)
		}
		if n, d, err := calls(again, again, nil); n != 3 || err != nil || d < 375*time.Millisecond || d > 750*time.Millisecond {
			t.Errorf("success at last: %d calls in %v, %v", n, d, err)
		}
		if n, _, err := calls(again, final); n != 2 || !errors.Is(err, final) {
			t.Errorf("an end: %d calls, %v", n, err)
		}
		if n, _, err := calls(again); n != 4 || !errors.Is(err, again) {
			t.Errorf("never: %d calls, %v", n, err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Limits{}, nil)
		begin, n := time.Now(), 0
		var left []int
		err := m.Retry(t.Context(), func(error) (time.Duration, bool) { return 2500 * time.Millisecond, true }, func(s int) { left = append(left, s) }, func(int) error {
			if n++; n == 2 {
				return nil
			}
			return errors.New("429")
		})
		if d := time.Since(begin); err != nil || d != 2500*time.Millisecond || !slices.Equal(left, []int{3, 2, 1}) {
			t.Errorf("it took %v, counted %v, %v", d, left, err)
		}
		// An hour is not waited for.
		n, begin = 0, time.Now()
		if err := m.Retry(t.Context(), func(error) (time.Duration, bool) { return time.Hour, true }, nil, func(int) error { n++; return errors.New("429") }); err == nil || n != 1 || time.Since(begin) > 0 {
			t.Errorf("asked to come in an hour: %d calls, %v", n, err)
		}
		// Neither by one who leaves.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		if err := m.Retry(ctx, func(error) (time.Duration, bool) { return 9 * time.Second, true }, nil, func(int) error { return errors.New("429") }); err == nil || time.Since(begin) != time.Second {
			t.Errorf("cancelled: %v after %v", err, time.Since(begin))
		}
	})
}

func TestPause(t *testing.T) {
	for n := 1; n < 100; n++ {
		want := min(longestPause, firstPause<<min(n-1, 10))
		if d := pause(n); d < want/2 || d > want {
			t.Errorf("pause %d is %v", n, d)
		}
	}
}
