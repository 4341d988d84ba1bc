package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// stuckExporter takes nothing until it is let go.
type stuckExporter struct {
	letGo chan struct{}
	mu    sync.Mutex
	taken int
}

func (e *stuckExporter) ExportSpans(_ context.Context, spans []sdk.ReadOnlySpan) error {
	<-e.letGo
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taken += len(spans)
	return nil
}

func (e *stuckExporter) Shutdown(context.Context) error { return nil }

// Each span is either sent or told of as dropped.
func TestDroppedSpansAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		full := &fullLog{log: slog.New(slog.NewTextHandler(&text, nil))}
		out := &stuckExporter{letGo: make(chan struct{})}
		p := sdk.NewTracerProvider(sdk.WithSpanProcessor(newBoundedQueue(out, 600, full.drop)))
		make1000 := func() {
			for range 1000 {
				_, s := p.Tracer("test").Start(t.Context(), "span")
				s.End()
			}
		}
		make1000()
		synctest.Wait()
		if text.Len() > 0 {
			t.Errorf("told at once: %s", text.String())
		}
		make1000() // within the interval: it is one line
		time.Sleep(fullInterval + time.Second)
		synctest.Wait()
		if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "dropped=1400") {
			t.Errorf("told is %q, want 1400 dropped in one line", got)
		}
		close(out.letGo)
		if err := p.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if out.taken != 600 {
			t.Errorf("sent are %d, want the 600 that fit", out.taken)
		}
		text.Reset()
		for range 600 { // there is room again
			_, s := p.Tracer("test").Start(t.Context(), "span")
			s.End()
		}
		if err := p.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		full.tell()
		if out.taken != 1200 || text.Len() > 0 {
			t.Errorf("sent are %d, told is %q; want 1200 and nothing", out.taken, text.String())
		}
	})
}

func TestQueueSize(t *testing.T) {
	for value, want := range map[string]int{"": sdk.DefaultMaxQueueSize, "100": 100, "0": sdk.DefaultMaxQueueSize, "many": sdk.DefaultMaxQueueSize} {
		if got := queueSize(func(string) string { return value }); got != want {
			t.Errorf("%q: %d, want %d", value, got, want)
		}
	}
}
