package stdio

import (
	"math/rand/v2"
	"testing"
	"time"
)

// process is one as its pipe sees it: writes of so many bytes, at intervals.
type process struct {
	size   int
	every  time.Duration
	answer bool          // each write comes so long after the one before was read
	burst  time.Duration // it writes so long, and pauses so long; zero for without a pause
}

// told is what came of a simulated pump.
type told struct {
	wakes, gathers int           // reads after a wake-up by a write, and by the clock
	late           time.Duration // the longest that something lay in the pipe
	written        int
	taken          int
}

// pumped has a process print for a simulated while. A read takes so long.
func pumped(p process, pipe int, work, while time.Duration) (r told) {
	var h heat
	now := time.Unix(0, 0)
	end, next, held := now.Add(while), now, 0 // the next write; what the pipe has
	var since time.Time                       // of the oldest in the pipe
	until := func(t time.Time) {              // what is written meanwhile
		for !next.After(t) && held+p.size <= pipe {
			if held == 0 {
				since = next
			}
			held += p.size
			r.written += p.size
			if p.answer {
				next = t.Add(time.Hour)
				break
			}
			next = next.Add(p.every)
			if p.burst > 0 && next.Sub(time.Unix(0, 0))/p.burst%2 == 1 {
				next = next.Add(p.burst)
			}
		}
		if next.Before(t) {
			next = t // it waited for room
		}
	}
	for now.Before(end) {
		if h.hot {
			if due := h.due(); due.After(now) {
				now = due
			}
			r.gathers++
		} else if held == 0 {
			if next.After(now) {
				now = next
			}
			r.wakes++
		}
		until(now)
		n := min(held, chunkSize)
		if n > 0 {
			r.late = max(r.late, now.Sub(since))
			since = now
		}
		held -= n
		r.taken += n
		h.read(now, n, pipe)
		if n > 0 && p.answer {
			next = now.Add(p.every)
		}
		now = now.Add(work)
	}
	return r
}

func TestHeat(t *testing.T) {
	const second, pipe, work = time.Second, 4 * chunkSize, 10 * time.Microsecond
	for name, k := range map[string]struct {
		process
		wakes, gathers int // at most
		rate           int // at least, in bytes a second
	}{
		"lines without a pause": {process{size: 100, every: 500 * time.Nanosecond}, 100, 8000, 199e6},
		"ten thousand a second": {process{size: 100, every: 100 * time.Microsecond}, 100, 1100, 999e3},
		"a thousand a second":   {process{size: 100, every: time.Millisecond}, 1001, 0, 99e3},
		"two, then nothing":     {process{size: 100, every: 500 * time.Millisecond}, 3, 0, 200},
		"bulk":                  {process{size: chunkSize, every: 20 * time.Microsecond}, 50001, 0, 3e9},
		"answers":               {process{size: 100, every: 20 * time.Microsecond, answer: true}, 50000, 60, 3e6},
		"large answers":         {process{size: 10000, every: 20 * time.Microsecond, answer: true}, 50000, 60, 300e6},
		"bursts of 20 ms":       {process{size: 100, every: 10 * time.Microsecond, burst: 20 * time.Millisecond}, 25 * 50, 2000, 4.9e6},
		"half pages":            {process{size: 2049, every: 10 * time.Microsecond}, 100, 10000, 204e6},
		"faster than any log":   {process{size: 4000, every: 5 * time.Microsecond}, 100, 10000, 600e6},
	} {
		size := pipe
		if k.size == 2049 {
			size /= 2 // no page has two
		}
		r := pumped(k.process, size, work, second)
		t.Logf("%s: %+v", name, r)
		if r.wakes > k.wakes || r.gathers > k.gathers {
			t.Errorf("%s: %d wake-ups and %d gathers, want at most %d and %d", name, r.wakes, r.gathers, k.wakes, k.gathers)
		}
		if r.taken < k.rate {
			t.Errorf("%s: %d bytes a second, want %d", name, r.taken, k.rate)
		}
		if limit := maxGather + work; r.late > limit {
			t.Errorf("%s: something lay in the pipe for %v, want at most %v", name, r.late, limit)
		}
	}
}

// Whatever comes, a hot pipe is read within a millisecond, and an empty or quiet
// one is cold.
func TestHeatOfAnything(t *testing.T) {
	for range 2000 {
		var h heat
		now := time.Unix(0, 0)
		for range 300 {
			n := rand.IntN(1 << rand.IntN(17))
			if !h.hot {
				n = max(n, 1)
			}
			pipe := 2 * 4096 << rand.IntN(6)
			pause := time.Duration(rand.Int64N(1 << rand.IntN(28)))
			now = now.Add(pause)
			was := h
			h.read(now, n, pipe)
			if wait := h.due().Sub(now); h.hot && (wait < minGather || wait > maxGather) {
				t.Fatalf("%+v, then %d bytes after %v: read again after %v", was, n, pause, wait)
			}
			if h.hot && n == 0 {
				t.Fatalf("%+v: hot though empty", was)
			}
			if h.hot && !was.hot && pause > hotReads*coldEvery {
				t.Fatalf("%+v: hot after a pause of %v", was, pause)
			}
			if h.hot && !was.hot && now.Before(was.off) {
				t.Fatalf("%+v: hot while that is left off", was)
			}
		}
	}
}
