// Package transfer runs the long work of pulls and pushes: work that several
// clients ask for at the same time is done once, a limited number of blobs is
// on its way at a time, and what fails is tried again.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/moss-containers/moss/pkg/moss"
)

// Limits say how much is done at a time. A value below one means docker's default.
type Limits struct {
	Downloads int // blobs at a time, of all clients together: 3
	Uploads   int // the same for uploads: 5
	Attempts  int // times that a blob is tried: 5
}

// Manager runs transfers.
type Manager struct {
	log      *slog.Logger
	down, up atomic.Pointer[semaphore.Weighted]
	attempts atomic.Int64

	mu      sync.Mutex
	running map[string]*shared // that a further client can join
}

// New makes a Manager; log may be nil.
func New(l Limits, log *slog.Logger) *Manager {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Manager{log: log, running: map[string]*shared{}}
	m.Limit(l)
	return m
}

// Limit sets limits for what begins from now on; what has a slot or waits for
// one goes by those it came under.
func (m *Manager) Limit(l Limits) {
	or := func(n, standard int) int64 {
		if n < 1 {
			return int64(standard)
		}
		return int64(n)
	}
	m.down.Store(semaphore.NewWeighted(or(l.Downloads, 3)))
	m.up.Store(semaphore.NewWeighted(or(l.Uploads, 5)))
	m.attempts.Store(or(l.Attempts, 5))
}

// shared is one run of work, and those who wait for it.
type shared struct {
	fan
	cancel context.CancelFunc
	done   chan struct{} // closed once value and err are set
	value  any
	err    error

	members int // under Manager.mu
}

// Do runs fn, or joins the run of it that others began with the same key; all
// get the same result. A key always goes with the same T.
//
// progress may be nil. It is called in the caller's goroutine, one call at a
// time: first with the latest report for each id, then with those that follow.
// When it is slower than the work, counts in between are left out, but never
// the last report for an id nor a change of its status.
//
// When ctx ends Do leaves. fn's context ends when the last has left, and that
// one waits for fn to return: nothing goes on behind the back of the callers.
// Values of the first caller's ctx are fn's too. A panic in fn is an error.
func Do[T any](ctx context.Context, m *Manager, key string, progress func(moss.Progress), fn func(ctx context.Context, report func(moss.Progress)) (T, error)) (T, error) {
	v, err := m.do(ctx, key, progress, func(ctx context.Context, report func(moss.Progress)) (any, error) { return fn(ctx, report) })
	t, _ := v.(T) // nil when fn did not get to an end
	return t, err
}

func (m *Manager) do(ctx context.Context, key string, progress func(moss.Progress), fn func(context.Context, func(moss.Progress)) (any, error)) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w, mine := m.join(ctx, key, fn, progress != nil)
	defer func() {
		if m.leave(key, w) {
			<-w.done
		}
	}()
	if mine != nil {
		defer w.detach(mine)
	}
	for {
		select {
		case <-w.done:
			if progress != nil {
				mine.deliver(progress)
			}
			return w.value, w.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-mine.wake():
			mine.deliver(progress)
		}
	}
}

// join makes the caller a member of the key's run, which it begins if there is
// none. Who begins it and reads misses none of its reports.
func (m *Manager) join(ctx context.Context, key string, fn func(context.Context, func(moss.Progress)) (any, error), reads bool) (w *shared, mine *reader) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, ok := m.running[key]
	var run context.Context //nolint:contextcheck // the run outlives whoever began it
	if !ok {
		w = &shared{done: make(chan struct{})}
		run, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
		m.running[key] = w
	}
	w.members++
	if reads {
		mine = w.attach()
	}
	if !ok {
		go m.run(run, key, w, fn)
	}
	return w, mine
}

// leave takes one member away, and tells whether it was the last. Who asks from
// then on begins anew.
func (m *Manager) leave(key string, w *shared) (last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.members--
	if w.members > 0 {
		return false
	}
	m.forgetLocked(key, w)
	w.cancel()
	return true
}

func (m *Manager) forgetLocked(key string, w *shared) {
	if m.running[key] == w {
		delete(m.running, key)
	}
}

var errExited = errors.New("the transfer ended without a result")

func (m *Manager) run(ctx context.Context, key string, w *shared, fn func(context.Context, func(moss.Progress)) (any, error)) {
	w.err = errExited // for a runtime.Goexit in fn
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("a transfer panicked", "transfer", key, "panic", p, "stack", string(debug.Stack()))
			w.err = fmt.Errorf("a fault in moss: %v", p)
		}
		w.cancel()
		// A result is not handed to those who ask later: what it tells may no longer be so.
		m.mu.Lock()
		m.forgetLocked(key, w)
		m.mu.Unlock()
		close(w.done)
	}()
	w.value, w.err = fn(ctx, w.report)
}
