package api

import (
	"runtime/debug"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back a while after the last of the requests, and not in between.
func TestRest(t *testing.T) {
	var freed atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		r := rest{free: func() { freed.Add(1) }, spare: func() uint64 { return restWorth }}
		r.begin()
		r.begin()
		r.end()
		time.Sleep(2 * restAfter)
		synctest.Wait()
		if n := freed.Load(); n != 0 {
			t.Errorf("%d times while a request is under way", n)
		}
		r.end()
		time.Sleep(restAfter / 2)
		r.begin()
		r.end()
		time.Sleep(restAfter / 2)
		synctest.Wait()
		if n := freed.Load(); n != 0 {
			t.Errorf("%d times although someone asked again", n)
		}
		time.Sleep(restAfter)
		synctest.Wait()
		if n := freed.Load(); n != 1 {
			t.Errorf("%d times, want one", n)
		}
	})
}

// A little waits longer, and not in vain.
func TestRestOfLittle(t *testing.T) {
	var freed atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		r := rest{free: func() { freed.Add(1) }, spare: func() uint64 { return restWorth - 1 }}
		want := func(n int32) {
			t.Helper()
			synctest.Wait()
			if got := freed.Load(); got != n {
				t.Errorf("%d times, want %d", got, n)
			}
		}
		r.begin()
		r.end()
		time.Sleep(restLong / 2)
		want(0)
		r.begin() // the time begins anew
		r.end()
		time.Sleep(restLong - time.Millisecond)
		want(0)
		time.Sleep(time.Millisecond)
		want(1)
		time.Sleep(2 * restLong)
		want(1)
	})
}

func TestSpareMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	debug.FreeOSMemory()
	before := spareMemory()
	for range 64 {
		garbage = make([]byte, 1<<20)
	}
	if grown := int64(spareMemory()) - int64(before); grown < 32<<20 {
		t.Errorf("64 MB of garbage are %d bytes to spare", grown)
	}
	debug.FreeOSMemory()
	if left := spareMemory(); left > 16<<20 {
		t.Errorf("after it was freed there are %d bytes to spare", left)
	}
}

var garbage []byte
