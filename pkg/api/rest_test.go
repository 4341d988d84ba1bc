package api

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back a while after the last of the requests, and not in between.
func TestRest(t *testing.T) {
	var freed atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		r := rest{free: func() { freed.Add(1) }}
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
