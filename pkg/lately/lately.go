// Package lately remembers when something last happened, by a clock that
// nobody sets.
package lately

import (
	"sync/atomic"
	"time"
)

// born is what moments are counted from: its monotonic clock comes along.
var born = time.Now()

// Moment is when something last happened. The zero Moment is never. It may be
// used by several goroutines at once, and not be copied.
type Moment struct{ since atomic.Int64 } // nanoseconds since born

// Now notes that it happens now.
func (m *Moment) Now() { m.since.Store(max(1, int64(time.Since(born)))) }

// Time tells when it last happened; zero for never.
func (m *Moment) Time() time.Time {
	if at := m.since.Load(); at != 0 {
		return born.Add(time.Duration(at))
	}
	return time.Time{}
}
