package main

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// queueSize is how many spans may wait for the collector: the SDK's variable, and its default.
func queueSize(getenv func(string) string) int {
	if n, err := strconv.Atoi(getenv("OTEL_BSP_MAX_QUEUE_SIZE")); err == nil && n > 0 {
		return n
	}
	return sdk.DefaultMaxQueueSize
}

// boundedQueue stands before the SDK's queue of spans, which drops what does not
// fit and tells nobody: here it is counted. It lets no more in than fits there.
type boundedQueue struct {
	sdk.SpanProcessor
	size    int64
	waiting atomic.Int64
	drop    func()
}

func newBoundedQueue(to sdk.SpanExporter, size int, drop func()) *boundedQueue {
	q := &boundedQueue{size: int64(size), drop: drop}
	q.SpanProcessor = sdk.NewBatchSpanProcessor(leavingExporter{to, q}, sdk.WithMaxQueueSize(size))
	return q
}

func (q *boundedQueue) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if q.waiting.Add(1) > q.size {
		q.waiting.Add(-1)
		q.drop()
		return
	}
	q.SpanProcessor.OnEnd(s)
}

// leavingExporter sees what leaves the queue.
type leavingExporter struct {
	sdk.SpanExporter
	q *boundedQueue
}

func (e leavingExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	defer e.q.waiting.Add(-int64(len(spans)))
	return e.SpanExporter.ExportSpans(ctx, spans)
}

// fullLog tells how many spans were dropped, once an interval at most.
type fullLog struct {
	log *slog.Logger

	mu      sync.Mutex
	dropped int  // since it was told last
	waits   bool // it will be told
}

// fullInterval is how long drops are counted before they are told.
const fullInterval = 10 * time.Second

func (f *fullLog) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped++
	if !f.waits {
		f.waits = true
		time.AfterFunc(fullInterval, f.tell)
	}
}

func (f *fullLog) tell() {
	f.mu.Lock()
	n := f.dropped
	f.dropped, f.waits = 0, false
	f.mu.Unlock()
	if n > 0 {
		f.log.Warn("traces are incomplete: spans end faster than the collector takes them; OTEL_BSP_MAX_QUEUE_SIZE lets more of them wait, OTEL_TRACES_SAMPLER makes fewer", "dropped", n)
	}
}
