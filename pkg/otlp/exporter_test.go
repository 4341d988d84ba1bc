package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// collector answers with each of the answers in turn, then with 200, and keeps
// what it was sent.
type collector struct {
	*httptest.Server
	mu      sync.Mutex
	answers []func(http.ResponseWriter)
	got     []*traces.TracesData
	heads   []http.Header
	paths   []string
}

func newCollector(t *testing.T, answers ...func(http.ResponseWriter)) *collector {
	t.Helper()
	c := &collector{answers: answers}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(z)
		}
	}
	d := &traces.TracesData{}
	if err == nil && r.Header.Get("Content-Type") == jsonType {
		err = decodeJSON(body, d)
	} else if err == nil {
		err = proto.Unmarshal(body, d)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.heads, c.paths = append(c.heads, r.Header), append(c.paths, r.URL.RequestURI())
	if len(c.answers) > 0 {
		answer := c.answers[0]
		c.answers = c.answers[1:]
		answer(w)
		return
	}
	c.got = append(c.got, d)
}

// ids are what OTLP's JSON has in hexadecimal and protobuf's in base64.
var ids = regexp.MustCompile(`"((?:trace|span|parentSpan)Id)":"([0-9a-f]*)"`)

func decodeJSON(b []byte, to proto.Message) error {
	b = ids.ReplaceAllFunc(b, func(m []byte) []byte {
		p := ids.FindSubmatch(m)
		raw, _ := hex.DecodeString(string(p[2]))
		return fmt.Appendf(nil, `"%s":"%s"`, p[1], base64.StdEncoding.EncodeToString(raw))
	})
	return protojson.Unmarshal(b, to) // which knows no unknown field
}

func status(code int, header ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func answer(code int, media, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// exporter is what the variables make; pauses are noted and take no time.
func exporter(t *testing.T, env map[string]string) (*Exporter, *[]time.Duration) {
	t.Helper()
	c, err := FromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	c.UserAgent = "test/1"
	x := New(c)
	t.Cleanup(func() { _ = x.Shutdown(t.Context()) })
	var pauses []time.Duration
	x.pause = func(_ context.Context, d time.Duration) error { pauses = append(pauses, d); return nil }
	return x, &pauses
}

// spans are two of one trace, the first with all that a span can have.
func spans(t *testing.T) []sdk.ReadOnlySpan {
	t.Helper()
	state, err := trace.ParseTraceState("vendor=x")
	if err != nil {
		t.Fatal(err)
	}
	far := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true,
	})
	kept := tracetest.NewSpanRecorder()
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(kept), sdk.WithSampler(sdk.AlwaysSample()),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "test"))))
	ctx, s := p.Tracer("one", trace.WithInstrumentationVersion("2")).Start(trace.ContextWithSpanContext(t.Context(), far), "GET /x",
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(time.Unix(1, 2)), trace.WithLinks(trace.Link{SpanContext: far}))
	s.SetAttributes(attribute.Bool("b", true), attribute.Int("i", -7), attribute.Float64("f", 1.5), attribute.String("s", "wrong \xff"),
		attribute.StringSlice("ss", []string{"a", "b"}), attribute.IntSlice("is", []int{1}), attribute.BoolSlice("bs", []bool{true}), attribute.Float64Slice("fs", []float64{2}))
	s.AddEvent("happened", trace.WithTimestamp(time.Unix(1, 3)), trace.WithAttributes(attribute.String("k", "v")))
	s.SetStatus(codes.Error, "broken \xfe")
	_, inner := p.Tracer("two").Start(ctx, "inside", trace.WithTimestamp(time.Unix(1, 3)))
	inner.SetStatus(codes.Ok, "")
	inner.End(trace.WithTimestamp(time.Unix(1, 4)))
	s.End(trace.WithTimestamp(time.Unix(1, 5)))
	if len(kept.Ended()) != 2 {
		t.Fatal("no spans to send")
	}
	return kept.Ended()
}

// All of a span arrives, and the same in both encodings, compressed or not.
func TestEncodings(t *testing.T) {
	sent := spans(t)
	var first *traces.TracesData
	for _, env := range []map[string]string{
		{},
		{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip"},
	} {
		c := newCollector(t)
		env["OTEL_EXPORTER_OTLP_ENDPOINT"] = c.URL
		env["OTEL_EXPORTER_OTLP_HEADERS"] = "x-key=a%20b, X-Other=c"
		x, _ := exporter(t, env)
		if err := x.ExportSpans(t.Context(), sent); err != nil {
			t.Fatalf("%v: %v", env, err)
		}
		if len(c.got) != 1 || c.paths[0] != "/v1/traces" {
			t.Fatalf("%v: %d messages at %v", env, len(c.got), c.paths)
		}
		h := c.heads[0]
		if h.Get("X-Key") != "a b" || h.Get("X-Other") != "c" || h.Get("User-Agent") != "test/1" {
			t.Errorf("%v: headers %v", env, h)
		}
		if first == nil {
			first = c.got[0]
		} else if !proto.Equal(first, c.got[0]) {
			t.Errorf("%v: not what the first encoding gave:\n%v\n%v", env, c.got[0], first)
		}
	}
	res := first.GetResourceSpans()[0]
	if got := res.GetResource().GetAttributes()[0].GetValue().GetStringValue(); got != "test" || len(first.GetResourceSpans()) != 1 || len(res.GetScopeSpans()) != 2 {
		t.Fatalf("resource %q: %v", got, first)
	}
	inner, outer := res.GetScopeSpans()[0].GetSpans()[0], res.GetScopeSpans()[1].GetSpans()[0]
	if scope := res.GetScopeSpans()[1].GetScope(); scope.GetName() != "one" || scope.GetVersion() != "2" {
		t.Errorf("scope %v", scope)
	}
	if !bytes.Equal(inner.GetParentSpanId(), outer.GetSpanId()) || !bytes.Equal(inner.GetTraceId(), outer.GetTraceId()) ||
		inner.GetKind() != traces.Span_SPAN_KIND_INTERNAL || inner.GetStatus().GetCode() != traces.Status_STATUS_CODE_OK || inner.GetFlags() != 0x101 {
		t.Errorf("inner %v", inner)
	}
	if outer.GetName() != "GET /x" || outer.GetKind() != traces.Span_SPAN_KIND_SERVER || outer.GetStatus().GetCode() != traces.Status_STATUS_CODE_ERROR ||
		outer.GetStatus().GetMessage() != "broken \uFFFD" || outer.GetStartTimeUnixNano() != 1e9+2 || outer.GetEndTimeUnixNano() != 1e9+5 ||
		outer.GetFlags() != 0x301 || outer.GetTraceState() != "vendor=x" || hex.EncodeToString(outer.GetParentSpanId()) != "0405000000000000" ||
		hex.EncodeToString(outer.GetTraceId()) != "01020300000000000000000000000000" {
		t.Errorf("outer %v", outer)
	}
	if l := outer.GetLinks()[0]; l.GetFlags() != 0x301 || l.GetTraceState() != "vendor=x" {
		t.Errorf("link %v", l)
	}
	if e := outer.GetEvents()[0]; e.GetName() != "happened" || e.GetTimeUnixNano() != 1e9+3 || e.GetAttributes()[0].GetKey() != "k" {
		t.Errorf("event %v", e)
	}
	var words []string
	for _, a := range outer.GetAttributes() {
		b, _ := protojson.Marshal(a.GetValue())
		words = append(words, a.GetKey()+strings.ReplaceAll(string(b), " ", ""))
	}
	want := `b{"boolValue":true} i{"intValue":"-7"} f{"doubleValue":1.5} s{"stringValue":"wrong` + "\uFFFD" + `"} ` +
		`ss{"arrayValue":{"values":[{"stringValue":"a"},{"stringValue":"b"}]}} is{"arrayValue":{"values":[{"intValue":"1"}]}} ` +
		`bs{"arrayValue":{"values":[{"boolValue":true}]}} fs{"arrayValue":{"values":[{"doubleValue":2}]}}`
	if got := strings.Join(words, " "); got != want {
		t.Errorf("attributes %s\nwant       %s", got, want)
	}
}

// What may pass is tried again, after the time that the collector names.
func TestTriedAgain(t *testing.T) {
	c := newCollector(t, status(429, "Retry-After", "3"), status(503), status(502), status(504, "Retry-After", "nonsense"),
		func(http.ResponseWriter) { panic(http.ErrAbortHandler) })
	x, pauses := exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	if err := x.ExportSpans(t.Context(), spans(t)); err != nil {
		t.Fatal(err)
	}
	if len(c.got) != 1 || len(*pauses) != 5 || (*pauses)[0] != 3*time.Second {
		t.Fatalf("%d messages, pauses %v", len(c.got), *pauses)
	}
	for i, p := range (*pauses)[1:] {
		if full := min(firstPause<<(i+1), longestPause); p < full/2 || p > 3*full/2 {
			t.Errorf("pause %d is %v, not about %v", i+1, p, full)
		}
	}
}

// A collector that wants more time than there is gets none: the reason is its answer.
func TestNoTimeLeft(t *testing.T) {
	c := newCollector(t, answer(503, "text/plain", "too\nbusy"))
	c.answers = append(c.answers, status(429, "Retry-After", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)))
	x, pauses := exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	err := x.ExportSpans(t.Context(), spans(t))
	if err == nil || err.Error() != "the collector answered 429 Too Many Requests" || len(*pauses) != 1 {
		t.Errorf("%v after pauses %v", err, *pauses)
	}
	// The time is the batch's: with the pauses.
	c.answers = []func(http.ResponseWriter){answer(503, "text/plain", "too\nbusy")}
	x, _ = exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_TIMEOUT": "60000"})
	x.pause = func(context.Context, time.Duration) error { return context.Canceled }
	if err := x.ExportSpans(t.Context(), spans(t)); err == nil || err.Error() != "the collector answered 503 Service Unavailable: too busy" {
		t.Errorf("got %v", err)
	}
}

func TestRefused(t *testing.T) {
	rpc := protowire.AppendString(protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 3), 2, protowire.BytesType), "no such tenant")
	for _, c := range []struct {
		answer func(http.ResponseWriter)
		want   string
	}{
		{answer(401, "application/json", `{"code": 16, "message": "who are you"}`), "the collector answered 401 Unauthorized: who are you"},
		{answer(400, protobufType, string(rpc)), "the collector answered 400 Bad Request: no such tenant"},
		{answer(404, "text/html", "<html>"), "the collector answered 404 Not Found"},
		{answer(500, "text/plain", strings.Repeat("x", 600)), "the collector answered 500 Internal Server Error: " + strings.Repeat("x", 512) + "…"},
		{status(307, "Location", "http://elsewhere/"), "the collector answered 307 Temporary Redirect: it is at http://elsewhere/, which the endpoint has to name"},
	} {
		srv := newCollector(t, c.answer)
		x, pauses := exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": srv.URL})
		if err := x.ExportSpans(t.Context(), spans(t)); err == nil || err.Error() != c.want || len(*pauses) != 0 || len(srv.heads) != 1 {
			t.Errorf("got  %v, %d requests\nwant %s", err, len(srv.heads), c.want)
		}
	}
}

func TestPartial(t *testing.T) {
	in := protowire.AppendString(protowire.AppendTag(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 2), 2, protowire.BytesType), "too old")
	whole := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), in)
	for _, c := range []struct {
		answer func(http.ResponseWriter)
		want   *PartialError
	}{
		{answer(200, protobufType, string(whole)), &PartialError{2, "too old"}},
		{answer(200, "application/json; charset=utf-8", `{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too old"}}`), &PartialError{2, "too old"}},
		{answer(200, jsonType, `{"partialSuccess": {"rejectedSpans": 2}}`), &PartialError{2, ""}},
		{answer(202, jsonType, `{"partialSuccess": {"errorMessage": "go on"}}`), &PartialError{0, "go on"}},
		{answer(200, jsonType, `{"partialSuccess": {}}`), nil},
		{answer(200, jsonType, `nonsense`), nil},
		{answer(200, protobufType, "\xff\xff nonsense"), nil},
		{status(204), nil},
	} {
		srv := newCollector(t, c.answer)
		x, _ := exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": srv.URL})
		err := x.ExportSpans(t.Context(), spans(t))
		got, _ := errors.AsType[*PartialError](err)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want || got == nil && err != nil {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
}

// A collector that is away is asked again, until the time is over.
func TestDown(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	url := srv.URL
	srv.Close()
	x, _ := exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": url})
	tries := 0
	x.pause = func(context.Context, time.Duration) error {
		if tries++; tries == 4 {
			return context.DeadlineExceeded
		}
		return nil
	}
	if err := x.ExportSpans(t.Context(), spans(t)); err == nil || !strings.HasPrefix(err.Error(), "cannot reach the collector: dial tcp") || tries != 4 {
		t.Errorf("%v after %d", err, tries)
	}
}

// One that does not answer takes no longer than the batch has.
func TestSilent(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	x, _ := exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": srv.URL, "OTEL_EXPORTER_OTLP_TIMEOUT": "50"})
	if err := x.ExportSpans(t.Context(), spans(t)); err == nil || err.Error() != "the collector has not answered in time" {
		t.Errorf("got %v", err)
	}
}

// A certificate that nobody vouches for is refused at once, and taken with its authority.
func TestTLS(t *testing.T) {
	c := &collector{}
	c.Server = httptest.NewUnstartedServer(c)
	c.Config.ErrorLog = nil
	c.StartTLS()
	defer c.Close()
	x, pauses := exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	if err := x.ExportSpans(t.Context(), spans(t)); err == nil || !strings.Contains(err.Error(), "certificate") || len(*pauses) != 0 {
		t.Errorf("got %v after %v", err, *pauses)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	x, _ = exporter(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_CERTIFICATE": ca})
	if err := x.ExportSpans(t.Context(), spans(t)); err != nil || len(c.got) != 1 {
		t.Errorf("got %v, %d messages", err, len(c.got))
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("\n\x0b\b\x02\x12\atoo old"))
	f.Add([]byte(`{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "x"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, media := range []string{protobufType, jsonType} {
			if e, ok := errors.AsType[*PartialError](partial(media, b)); ok {
				if _, err := json.Marshal(e); err != nil || len(e.Message) > maxWords+len("…") {
					t.Errorf("%q: %d bytes, %v", b, len(e.Message), err)
				}
			}
			_ = refused(&http.Response{Header: http.Header{"Content-Type": {media}}}, b)
		}
	})
}
