package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/otlp"
)

// recorded is tracing whose spans are kept.
func recorded(t *testing.T) (*tracing, *tracetest.SpanRecorder) {
	t.Helper()
	kept := tracetest.NewSpanRecorder()
	tr := startTracing(t.Context(), sdk.NewTracerProvider(sdk.WithSpanProcessor(kept)), true, slog.New(slog.DiscardHandler))
	t.Cleanup(tr.close)
	return tr, kept
}

// spanLine is a span in a line: its name, its parent's, its attributes, its status.
func spanLines(kept *tracetest.SpanRecorder) []string {
	names := map[trace.SpanID]string{}
	for _, s := range kept.Started() {
		names[s.SpanContext().SpanID()] = s.Name()
	}
	var lines []string
	for _, s := range kept.Ended() {
		line := s.Name()
		if p := s.Parent(); p.IsRemote() {
			line += " <- " + p.SpanID().String()
		} else if p.IsValid() {
			line += " <- " + names[p.SpanID()]
		}
		for _, a := range s.Attributes() {
			line += fmt.Sprintf(" %s=%s", a.Key, a.Value.Emit())
		}
		for _, e := range s.Events() {
			line += " +" + e.Name
		}
		if st := s.Status(); st.Code != codes.Unset {
			line += fmt.Sprintf(" %s %q", st.Code, st.Description)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestRequestSpans(t *testing.T) {
	tr, kept := recorded(t)
	ask := func(method, path, route string, status int, err error, headers ...string) {
		r := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		_, done := tr.request(r, route)
		done(status, err)
	}
	ask("POST", "/v1.56/containers/web/start?detachKeys=secret", "/containers/{id}/start", 204, nil,
		"User-Agent", "Docker-Client/29", "Traceparent", "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01", "Tracestate", "a=b")
	ask("GET", "/nothing", "", 404, errors.New("page not found"), "Traceparent", "nonsense")
	ask("BREW", "/pot", "", 500, errors.New("a teapot"))
	ask("GET", "/info", "/info", 0, nil)
	want := []string{
		"POST /containers/{id}/start <- 1112131415161718 http.request.method=POST url.path=/v1.56/containers/web/start url.scheme=http http.route=/containers/{id}/start user_agent.original=Docker-Client/29 network.transport=unix http.response.status_code=204",
		"GET http.request.method=GET url.path=/nothing url.scheme=http network.transport=unix http.response.status_code=404",
		`HTTP http.request.method_original=BREW http.request.method=_OTHER url.path=/pot url.scheme=http network.transport=unix http.response.status_code=500 error.type=500 Error "a teapot"`,
		`GET /info http.request.method=GET url.path=/info url.scheme=http http.route=/info network.transport=unix error.type=aborted Error ""`,
	}
	if got := spanLines(kept); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	first := kept.Ended()[0]
	if c := first.SpanContext(); c.TraceID().String() != "0102030405060708090a0b0c0d0e0f10" || c.TraceState().String() != "a=b" || first.SpanKind() != trace.SpanKindServer {
		t.Errorf("%v, %v", c, first.SpanKind())
	}
	tr.parents = false
	ask("GET", "/info", "/info", 200, nil, "Traceparent", "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01")
	if s := kept.Ended()[4]; s.Parent().IsValid() {
		t.Errorf("%v has a parent although OTEL_PROPAGATORS does not say so", s.Parent())
	}
}

// Phases are told below what asked for them; what nobody asked for is not.
func TestPhaseSpans(t *testing.T) {
	tr, kept := recorded(t)
	for _, p := range []phases{{traces: tr}, {metrics: newMetrics(), traces: tr}, {metrics: newMetrics()}} {
		for _, ctx := range []context.Context{t.Context(), trace.ContextWithSpan(t.Context(), tr.boot)} {
			inner, end := p.begin(ctx, mountRootfs, "abc")
			_, endInner := p.begin(inner, startUnit, "")
			err := error(moss.Errorf(moss.NotFound, "no such unit"))
			endInner(&err)
			err = nil
			end(&err)
		}
		if p.metrics != nil {
			all, err := p.metrics.registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all {
				if m := f.GetMetric(); f.GetName() == "moss_start_phase_seconds" && (len(m) != 1 || m[0].GetHistogram().GetSampleCount() != 2) {
					t.Errorf("counted %v, want 2 mounts, and no unit, which failed", m)
				}
			}
		}
	}
	one := []string{
		`unit.start <- rootfs.mount error.type=` + moss.NotFound.String() + ` Error "no such unit"`,
		"rootfs.mount <- engine.start container.id=abc",
	}
	if got := spanLines(kept); !slices.Equal(got, append(one, one...)) {
		t.Errorf("got %q", got)
	}
}

// The end of a container is below the request that has signalled it, once and not for ever.
func TestCauses(t *testing.T) {
	tr, kept := recorded(t)
	c := &moss.Container{ID: "abc", Name: "web", ImageRef: "busybox", State: moss.StateRunning}
	end := func() {
		_, done := tr.Begin(t.Context(), "exit", c)
		done(&moss.Container{State: moss.StateExited, Run: moss.Run{ExitCode: 137}}, nil)
	}
	_, stop := tr.tracer.Start(t.Context(), "stop")
	tr.signals(c.ID, stop)
	tr.causes[c.ID] = cause{stop, time.Now().Add(-time.Hour)}
	end() // the request still waits
	end()
	stop.End()
	tr.signals(c.ID, stop)
	end() // just now
	tr.signals(c.ID, stop)
	tr.causes[c.ID] = cause{stop, time.Now().Add(-time.Hour)}
	tr.signals("other", stop)
	if len(tr.causes) != 1 {
		t.Errorf("%d causes are kept", len(tr.causes))
	}
	tr.causes[c.ID] = cause{stop, time.Now().Add(-time.Hour)}
	end()
	tr.signals(c.ID, trace.SpanFromContext(t.Context())) // no trace
	end()
	const attrs = " container.id=abc container.name=web container.image.name=busybox moss.container.state=exited process.exit.code=137"
	want := []string{"container.exit <- stop" + attrs, "container.exit" + attrs, "stop", "container.exit <- stop" + attrs, "container.exit" + attrs, "container.exit" + attrs}
	if got := spanLines(kept); !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// The daemon's start is told by its steps, whose times were taken before.
func TestBootSpans(t *testing.T) {
	tr, kept := recorded(t)
	begun := time.Now()
	took := newSteps(begun)
	took.done("bus")
	if err := tr.restore(t.Context(), took, func(ctx context.Context) error {
		_, done := tr.Begin(ctx, "restore", &moss.Container{ID: "abc"})
		done(&moss.Container{State: moss.StateRunning}, nil)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	took.done("restore")
	took.done("listeners")
	tr.started(took)
	got := spanLines(kept)
	want := []string{
		"container.restore <- engine.start.restore container.id=abc container.name= container.image.name= moss.container.state=running",
		"engine.start.restore <- engine.start", "engine.start.bus <- engine.start", "engine.start.listeners <- engine.start", "engine.start",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if bus := kept.Ended()[2]; !bus.StartTime().Equal(begun) || bus.EndTime().Sub(begun) != took.all()[0].Took {
		t.Errorf("the first step is from %v to %v, not from %v", bus.StartTime(), bus.EndTime(), begun)
	}
	failed := errors.New("no")
	if err := (*tracing)(nil).restore(t.Context(), took, func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

// fakeTransfers tells what it is given.
type fakeTransfers struct {
	tell []moss.Progress
	err  error
}

func (f fakeTransfers) Pull(_ context.Context, _ moss.PullRequest, progress func(moss.Progress)) ([]moss.PulledImage, error) {
	for _, p := range f.tell {
		progress(p)
	}
	return nil, f.err
}

func (f fakeTransfers) Push(context.Context, moss.PushRequest, func(moss.Progress)) ([]moss.PushedImage, error) {
	return nil, f.err
}

func TestPullSpans(t *testing.T) {
	tr, kept := recorded(t)
	ctx := trace.ContextWithSpan(t.Context(), tr.boot)
	tell := []moss.Progress{
		{ID: "1.36", Status: "Pulling from library/busybox"},
		{ID: "c", Status: "Already exists"},
		{ID: "a", Status: "Pulling fs layer"},
		{ID: "b", Status: "Pulling fs layer"},
		{ID: "a", Status: "Downloading", Current: 1},
		{ID: "a", Status: "Downloading", Current: 2},
		{ID: "a", Status: "Download complete"},
		{ID: "a", Status: "Pull complete"},
		{ID: "a", Status: "Pull complete"},
		{Status: "Digest: x"},
	}
	seen := 0
	_, err := observedTransfers{fakeTransfers{tell, errors.New("broke off")}, tr}.Pull(ctx, moss.PullRequest{Ref: "docker.io/library/busybox:1.36"}, func(moss.Progress) { seen++ })
	if err == nil || seen != len(tell) {
		t.Errorf("%v, %d of %d came through", err, seen, len(tell))
	}
	if _, err := (observedTransfers{fakeTransfers{}, tr}).Push(ctx, moss.PushRequest{Ref: "busybox"}, nil); err != nil {
		t.Error(err)
	}
	_, _ = observedTransfers{fakeTransfers{tell: tell}, tr}.Pull(t.Context(), moss.PullRequest{}, func(moss.Progress) {}) // nobody asked
	kind := moss.ClassOf(errors.New("x")).String()
	want := []string{
		"image.layer <- image.pull moss.layer.digest=a +Downloading +Download complete",
		`image.layer <- image.pull moss.layer.digest=b error.type=` + kind + ` Error "broke off"`,
		`image.pull <- engine.start container.image.name=docker.io/library/busybox:1.36 error.type=` + kind + ` Error "broke off"`,
		"image.push <- engine.start container.image.name=busybox",
	}
	if got := spanLines(kept); !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

// What is logged within a trace says so.
func TestTraceLog(t *testing.T) {
	var text bytes.Buffer
	log := part(slog.New(traceLog{slog.NewTextHandler(&text, nil)}), "api")
	c := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	log.WithGroup("g").ErrorContext(trace.ContextWithSpanContext(t.Context(), c), "inside", "a", 1)
	log.Error("outside")
	lines := strings.Split(text.String(), "\n")
	if !strings.Contains(lines[0], "component=api g.a=1 g.trace_id=01000000000000000000000000000000 g.span_id=0200000000000000") || strings.Contains(lines[1], "trace") {
		t.Errorf("got %q", lines)
	}
}

// Losses are told, not each of them, and when they are over.
func TestLossLog(t *testing.T) {
	var text bytes.Buffer
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	now := time.Unix(1000, 0)
	l := &lossLog{log: slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: noTime})), now: func() time.Time { return now }}
	fail := error(nil)
	e := tellingExporter{exporterFunc(func() error { return fail }), l}
	send := func(err error) {
		t.Helper()
		fail = err
		if err := e.ExportSpans(t.Context(), make([]sdk.ReadOnlySpan, 5)); err != nil {
			t.Errorf("the SDK is told as well: %v", err)
		}
	}
	send(nil)
	send(errors.New("down"))
	send(errors.New("down"))
	send(errors.New("still"))
	now = now.Add(lossInterval)
	send(errors.New("down"))
	send(nil)
	send(nil)
	send(&otlp.PartialError{Rejected: 2, Message: "old"})
	want := `level=WARN msg="traces are incomplete" error=down lost=5
level=WARN msg="traces are incomplete" error=down lost=20 unheard=2
level=INFO msg="traces are sent again" lost=20
level=WARN msg="traces are incomplete" error="the collector refused 2 spans: old" lost=2
`
	if text.String() != want {
		t.Errorf("got\n%s", text.String())
	}
}

type exporterFunc func() error

func (f exporterFunc) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return f() }
func (exporterFunc) Shutdown(context.Context) error                          { return nil }

// All of it, from the variables to the collector.
func TestTracingFromEnv(t *testing.T) {
	var mu sync.Mutex
	type resourceSpans struct {
		Resource struct {
			Attributes []struct {
				Key   string
				Value struct{ StringValue string }
			}
		}
		ScopeSpans []struct {
			Spans []struct{ Name, TraceID string }
		}
	}
	var got []resourceSpans
	c := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var d struct{ ResourceSpans []resourceSpans }
		if err := json.NewDecoder(r.Body).Decode(&d); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, d.ResourceSpans...)
	}))
	defer c.Close()
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=lab,service.version=x",
		"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0",
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	getenv := func(name string) string { return env[name] }
	log := slog.New(slog.DiscardHandler)
	tr, err := newTracing(t.Context(), "moss-mine", getenv, log)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/info", http.NoBody)
	_, done := tr.request(r, "/info") // the sampler wants none of what has no parent
	done(200, nil)
	r.Header.Set("Traceparent", "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01")
	_, done = tr.request(r, "/info")
	done(200, nil)
	tr.close()
	if len(got) != 1 || len(got[0].ScopeSpans) != 1 || len(got[0].ScopeSpans[0].Spans) != 1 || got[0].ScopeSpans[0].Spans[0].TraceID != "0102030405060708090a0b0c0d0e0f10" {
		t.Fatalf("got %+v", got)
	}
	attrs := map[string]string{}
	for _, a := range got[0].Resource.Attributes {
		attrs[a.Key] = a.Value.StringValue
	}
	if attrs["service.name"] != "moss-mine" || attrs["service.version"] != "x" || attrs["deployment.environment.name"] != "lab" || attrs["telemetry.sdk.language"] != "go" {
		t.Errorf("resource %v", attrs)
	}
	for _, c := range []struct{ name, value, err string }{
		{"OTEL_SDK_DISABLED", "true", ""},
		{"OTEL_TRACES_EXPORTER", "none", ""},
		{"OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER=zipkin"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "does not speak"},
		{"OTEL_PROPAGATORS", "tracecontext,b3", "OTEL_PROPAGATORS=b3"},
	} {
		tr, err := newTracing(t.Context(), "moss", func(name string) string {
			if name == c.name {
				return c.value
			}
			return env[name]
		}, log)
		if tr != nil || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
	}
	for text, want := range map[string]bool{"": true, "baggage": false, "none": false, "baggage, tracecontext": true} {
		if got, err := propagates(text); got != want || err != nil {
			t.Errorf("OTEL_PROPAGATORS=%s: %v, %v", text, got, err)
		}
	}
}
