package transfer

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Download waits for one of the slots for downloads, in the order of asking.
// waiting, if given, is called when there is none at once.
func (m *Manager) Download(ctx context.Context, waiting ...func()) (release func(), err error) {
	return slot(ctx, m.down.Load(), waiting)
}

// Upload is the same for uploads.
func (m *Manager) Upload(ctx context.Context, waiting ...func()) (release func(), err error) {
	return slot(ctx, m.up.Load(), waiting)
}

func slot(ctx context.Context, s *semaphore.Weighted, waiting []func()) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !s.TryAcquire(1) {
		for _, fn := range waiting {
			fn()
		}
		if err := s.Acquire(ctx, 1); err != nil {
			return nil, err
		}
	}
	return sync.OnceFunc(func() { s.Release(1) }), nil
}
