package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.26.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/otlp"
	"github.com/moss-containers/moss/pkg/version"
)

const (
	// tracesGrace is how long the last spans may take when the daemon ends.
	tracesGrace = 2 * time.Second
	// causeTime is how long after a signal the end of a container counts as its doing.
	causeTime = 10 * time.Second
)

// tracing makes spans for OpenTelemetry, where one of its variables asks for
// them: one for each request, one for each thing that the engine does unasked,
// and below them the engine's phases. All of its methods can be called on nil.
type tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	boot     trace.Span // of the daemon's start
	parents  bool       // a request's traceparent is heeded
	full     *fullLog   // nil in tests
	log      *slog.Logger

	mu     sync.Mutex
	causes map[moss.ContainerID]cause // of an end to come
}

// cause is what has signalled a container.
type cause struct {
	span trace.Span
	at   time.Time
}

// openTraces reads the variables and begins the daemon's own trace; the log that
// it returns has the ids of traces. What is wrong with the variables is told
// there: the engine works without traces as well.
func openTraces(ctx context.Context, service string, log *slog.Logger) (*tracing, *slog.Logger) {
	part := part(log, "traces")
	t, err := newTracing(ctx, service, os.Getenv, part)
	if err != nil {
		part.Error("there are no traces", "error", err)
	}
	if t == nil {
		return nil, log
	}
	return t, slog.New(traceLog{log.Handler()})
}

// newTracing is nil where no variable asks for traces. The SDK reads its own
// variables, those of the process: samplers, batches, limits, resources.
func newTracing(ctx context.Context, service string, getenv func(string) string, log *slog.Logger) (*tracing, error) {
	if wanted, err := otlp.Wanted(getenv); err != nil || !wanted {
		return nil, err
	}
	cfg, err := otlp.FromEnv(getenv)
	if err != nil {
		return nil, err
	}
	cfg.UserAgent = "moss/" + version.Version
	parents, err := propagates(getenv("OTEL_PROPAGATORS"))
	if err != nil {
		return nil, err
	}
	r := &lossLog{log: log, now: time.Now}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(r.failed))
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version.Version)), resource.WithFromEnv())
	if err != nil {
		r.failed(err) // what could be read of it is there
	}
	full := &fullLog{log: log}
	queue := newBoundedQueue(tellingExporter{otlp.New(cfg), r}, queueSize(getenv), full.drop)
	p := sdk.NewTracerProvider(sdk.WithResource(res), sdk.WithSpanProcessor(queue))
	log.Info("traces are sent", "to", cfg.Endpoint.Redacted())
	t := startTracing(ctx, p, parents, log)
	t.full = full
	return t, nil
}

func startTracing(ctx context.Context, p *sdk.TracerProvider, parents bool, log *slog.Logger) *tracing {
	t := &tracing{
		provider: p, parents: parents, log: log, causes: map[moss.ContainerID]cause{},
		tracer: p.Tracer("github.com/moss-containers/moss", trace.WithInstrumentationVersion(version.Version), trace.WithSchemaURL(semconv.SchemaURL)),
	}
	_, t.boot = t.tracer.Start(ctx, "engine.start")
	return t
}

// propagates says whether the parents that requests name are heeded.
// What baggage a request has is nothing to the engine.
func propagates(text string) (bool, error) {
	if strings.TrimSpace(text) == "" {
		return true, nil
	}
	heeded := false
	for name := range strings.SplitSeq(text, ",") {
		switch name = strings.TrimSpace(name); name {
		case "tracecontext":
			heeded = true
		case "baggage", "none", "":
		default:
			return false, errors.New("moss does not read what OTEL_PROPAGATORS=" + name + " names: set tracecontext, or none")
		}
	}
	return heeded, nil
}

// close sends what is left.
func (t *tracing) close() {
	if t == nil {
		return
	}
	t.boot.End() // of a start that failed
	ctx, cancel := context.WithTimeout(context.Background(), tracesGrace)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("the last spans are lost", "error", err)
	}
	if t.full != nil {
		t.full.tell()
	}
}

// child begins a span below the one of ctx; where there is none, nobody has asked
// for what happens, and nothing is told of it.
func (t *tracing) child(ctx context.Context, name string, id moss.ContainerID) (context.Context, func(error)) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, func(error) {}
	}
	ctx, span := t.tracer.Start(ctx, name)
	if id != "" {
		span.SetAttributes(semconv.ContainerID(string(id)))
	}
	return ctx, func(err error) { endSpan(span, err) }
}

// endSpan ends a span that failed with err, if not nil.
func endSpan(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(semconv.ErrorTypeKey.String(errorType(err)))
	}
	span.End()
}

// errorType is of low cardinality: the class, or what kind of end it was.
func errorType(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return moss.ClassOf(err).String()
}

// Begin follows what the engine does unasked (engine.Tracer). The end of a
// container belongs to the request that has just signalled it.
func (t *tracing) Begin(ctx context.Context, what string, c *moss.Container) (context.Context, func(*moss.Container, error)) {
	if what == "exit" {
		if span := t.caused(c.ID); span != nil {
			ctx = trace.ContextWithSpan(ctx, span)
		}
	}
	ctx, span := t.tracer.Start(ctx, "container."+what)
	span.SetAttributes(semconv.ContainerID(string(c.ID)), semconv.ContainerName(c.Name), semconv.ContainerImageName(c.ImageRef))
	return ctx, func(now *moss.Container, err error) {
		span.SetAttributes(attribute.String("moss.container.state", string(now.State)))
		if what == "exit" {
			span.SetAttributes(attribute.Int("process.exit.code", now.Run.ExitCode))
		}
		endSpan(span, err)
	}
}

// signals notes who has signalled a container.
func (t *tracing) signals(id moss.ContainerID, span trace.Span) {
	if t == nil || !span.SpanContext().IsValid() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for old, c := range t.causes { // of signals that ended nothing
		if !c.counts() {
			delete(t.causes, old)
		}
	}
	t.causes[id] = cause{span, time.Now()}
}

// caused is the span that has signalled a container, nil for none, and forgets it.
func (t *tracing) caused(id moss.ContainerID) trace.Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.causes[id]
	delete(t.causes, id)
	if !ok || !c.counts() {
		return nil
	}
	return c.span
}

// counts says whether an end now would be the signal's: its request still waits
// for it, or it was just now.
func (c cause) counts() bool { return c.span.IsRecording() || time.Since(c.at) < causeTime }

// restore runs the engine's, whose containers are below a span of their own.
func (t *tracing) restore(ctx context.Context, took *steps, restore func(context.Context) error) error {
	if t == nil {
		return restore(ctx)
	}
	ctx, span := t.tracer.Start(trace.ContextWithSpan(ctx, t.boot), "engine.start.restore", trace.WithTimestamp(took.latest()))
	err := restore(ctx)
	endSpan(span, err)
	return err
}

// started ends the daemon's start; its steps, which were measured anyway, become spans.
func (t *tracing) started(took *steps) {
	if t == nil {
		return
	}
	ctx, at := trace.ContextWithSpan(context.Background(), t.boot), took.begun
	for _, s := range took.all() {
		end := at.Add(s.Took)
		if s.Name != "restore" { // it has one
			_, span := t.tracer.Start(ctx, "engine.start."+s.Name, trace.WithTimestamp(at))
			span.End(trace.WithTimestamp(end))
		}
		at = end
	}
	t.boot.End()
}

// lossLog tells of spans that are lost, once a minute at most, and when they get through again.
type lossLog struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	told    time.Time // when last
	lost    int       // spans since the collector last took some
	unheard int       // failures that were not told
}

const lossInterval = time.Minute

// failed tells of what the SDK or the exporter could not do.
func (l *lossLog) failed(err error) { l.count(0, err) }

func (l *lossLog) count(lost int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost += lost
	now := l.now()
	if !l.told.IsZero() && now.Sub(l.told) < lossInterval {
		l.unheard++
		return
	}
	args := []any{"error", err}
	if l.lost > 0 {
		args = append(args, "lost", l.lost)
	}
	if l.unheard > 0 {
		args = append(args, "unheard", l.unheard)
	}
	l.told, l.unheard = now, 0
	l.log.Warn("traces are incomplete", args...)
}

func (l *lossLog) taken() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost > 0 {
		l.log.Info("traces are sent again", "lost", l.lost)
		l.lost, l.unheard, l.told = 0, 0, time.Time{}
	}
}

// tellingExporter tells of what is lost; the SDK would only pass it on.
type tellingExporter struct {
	sdk.SpanExporter
	to *lossLog
}

func (e tellingExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	part, partly := errors.AsType[*otlp.PartialError](err)
	switch {
	case partly:
		e.to.count(int(part.Rejected), err)
	case err != nil:
		e.to.count(len(spans), err)
	case len(spans) > 0:
		e.to.taken()
	}
	return nil
}

// traceLog adds to what is logged which trace it belongs to, where one does.
type traceLog struct{ slog.Handler }

func (h traceLog) Handle(ctx context.Context, r slog.Record) error {
	if c := trace.SpanContextFromContext(ctx); c.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", c.TraceID().String()), slog.String("span_id", c.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traceLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceLog{h.Handler.WithAttrs(slices.Clip(attrs))}
}

func (h traceLog) WithGroup(name string) slog.Handler { return traceLog{h.Handler.WithGroup(name)} }
