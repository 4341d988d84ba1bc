package otlp

import (
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resources "go.opentelemetry.io/proto/otlp/resource/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
)

// encode makes a message of spans that one provider has made: they share its
// resource. On the wire a TracesData is an ExportTraceServiceRequest, whose
// package would bring gRPC along.
func encode(spans []sdk.ReadOnlySpan) *traces.TracesData {
	if len(spans) == 0 {
		return &traces.TracesData{}
	}
	res := spans[0].Resource()
	all := &traces.ResourceSpans{Resource: &resources.Resource{Attributes: encodeAttributes(res.Attributes())}, SchemaUrl: res.SchemaURL()}
	scopes := map[instrumentation.Scope]*traces.ScopeSpans{}
	for _, s := range spans {
		scope := s.InstrumentationScope()
		in := scopes[scope]
		if in == nil {
			in = &traces.ScopeSpans{Scope: &common.InstrumentationScope{
				Name: scope.Name, Version: scope.Version, Attributes: encodeAttributes(scope.Attributes.ToSlice()),
			}, SchemaUrl: scope.SchemaURL}
			scopes[scope] = in
			all.ScopeSpans = append(all.ScopeSpans, in)
		}
		in.Spans = append(in.Spans, encodeSpan(s))
	}
	return &traces.TracesData{ResourceSpans: []*traces.ResourceSpans{all}}
}

func encodeSpan(s sdk.ReadOnlySpan) *traces.Span {
	own, parent := s.SpanContext(), s.Parent()
	out := &traces.Span{
		TraceId: id(own.TraceID()), SpanId: spanID(own), TraceState: own.TraceState().String(), Flags: flags(own, parent.IsRemote()),
		Name: valid(s.Name()), Kind: kinds[s.SpanKind()], StartTimeUnixNano: nano(s.StartTime()), EndTimeUnixNano: nano(s.EndTime()),
		Attributes: encodeAttributes(s.Attributes()), DroppedAttributesCount: count(s.DroppedAttributes()),
		DroppedEventsCount: count(s.DroppedEvents()), DroppedLinksCount: count(s.DroppedLinks()),
		Status: &traces.Status{Code: statuses[s.Status().Code], Message: valid(s.Status().Description)},
	}
	if parent.HasSpanID() {
		out.ParentSpanId = spanID(parent)
	}
	for _, e := range s.Events() {
		out.Events = append(out.Events, &traces.Span_Event{
			TimeUnixNano: nano(e.Time), Name: valid(e.Name), Attributes: encodeAttributes(e.Attributes), DroppedAttributesCount: count(e.DroppedAttributeCount),
		})
	}
	for _, l := range s.Links() {
		to := l.SpanContext
		out.Links = append(out.Links, &traces.Span_Link{
			TraceId: id(to.TraceID()), SpanId: spanID(to), TraceState: to.TraceState().String(), Flags: flags(to, to.IsRemote()),
			Attributes: encodeAttributes(l.Attributes), DroppedAttributesCount: count(l.DroppedAttributeCount),
		})
	}
	return out
}

var kinds = map[trace.SpanKind]traces.Span_SpanKind{
	trace.SpanKindInternal: traces.Span_SPAN_KIND_INTERNAL, trace.SpanKindServer: traces.Span_SPAN_KIND_SERVER,
	trace.SpanKindClient: traces.Span_SPAN_KIND_CLIENT, trace.SpanKindProducer: traces.Span_SPAN_KIND_PRODUCER,
	trace.SpanKindConsumer: traces.Span_SPAN_KIND_CONSUMER,
}

var statuses = map[codes.Code]traces.Status_StatusCode{
	codes.Ok: traces.Status_STATUS_CODE_OK, codes.Error: traces.Status_STATUS_CODE_ERROR,
}

func id(t trace.TraceID) []byte { return t[:] }

func spanID(c trace.SpanContext) []byte {
	s := c.SpanID()
	return s[:]
}

// flags are the W3C's, with those that say whether the parent, or what is linked
// to, is of another process.
func flags(c trace.SpanContext, remote bool) uint32 {
	f := uint32(c.TraceFlags()) | uint32(traces.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
	if remote {
		f |= uint32(traces.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	return f
}

func nano(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

func count(n int) uint32 { return uint32(max(0, n)) }

func encodeAttributes(list []attribute.KeyValue) []*common.KeyValue {
	out := make([]*common.KeyValue, 0, len(list))
	for _, a := range list {
		out = append(out, &common.KeyValue{Key: string(a.Key), Value: value(a.Value)})
	}
	return out
}

func value(v attribute.Value) *common.AnyValue {
	switch v.Type() {
	case attribute.BOOL:
		return boolean(v.AsBool())
	case attribute.INT64:
		return integer(v.AsInt64())
	case attribute.FLOAT64:
		return float(v.AsFloat64())
	case attribute.BOOLSLICE:
		return array(v.AsBoolSlice(), boolean)
	case attribute.INT64SLICE:
		return array(v.AsInt64Slice(), integer)
	case attribute.FLOAT64SLICE:
		return array(v.AsFloat64Slice(), float)
	case attribute.STRINGSLICE:
		return array(v.AsStringSlice(), text)
	case attribute.STRING, attribute.INVALID:
	}
	return text(v.Emit())
}

func boolean(b bool) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: b}}
}

func integer(n int64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
}

func float(f float64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: f}}
}

func text(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: valid(s)}}
}

// valid is for protobuf, which refuses the whole message where a string is not
// UTF-8; names of files and words of errors need not be.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func array[T any](list []T, one func(T) *common.AnyValue) *common.AnyValue {
	all := &common.ArrayValue{}
	for _, v := range list {
		all.Values = append(all.Values, one(v))
	}
	return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: all}}
}
