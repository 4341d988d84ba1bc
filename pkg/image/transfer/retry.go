package transfer

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
	// Who asks us to stay away for longer is not waited for.
	longestAsked = time.Minute
)

// Retry calls fn, at most as often as the limit on attempts says, until it
// succeeds, retryable says that its error would come again, or ctx ends; the
// error is that of the last call. Between two calls it waits, each time about
// twice as long, and at least for what retryable names (a registry's
// Retry-After). left, which may be nil, is called before each second of the
// wait with the seconds to go.
func (m *Manager) Retry(ctx context.Context, retryable func(error) (after time.Duration, ok bool), left func(seconds int), fn func(attempt int) error) error {
	for n := 1; ; n++ {
		err := fn(n)
		if err == nil || int64(n) >= m.attempts.Load() || ctx.Err() != nil {
			return err
		}
		after, ok := retryable(err)
		if !ok || after > longestAsked {
			return err
		}
		if sleep(ctx, max(pause(n), after), left) != nil {
			return err
		}
	}
}

// pause is between half of and the whole of what doubles each time.
func pause(n int) time.Duration {
	d := longestPause
	if n < 7 {
		d = min(longestPause, firstPause<<(n-1))
	}
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration, left func(int)) error {
	for d > 0 {
		step := min(d, time.Second)
		// The part of a second comes first, so that the rest counts down evenly.
		if part := d % time.Second; part > 0 {
			step = part
		}
		if left != nil {
			left(int((d + time.Second - 1) / time.Second))
		}
		t := time.NewTimer(step)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		d -= step
	}
	return nil
}
