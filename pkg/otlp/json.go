package otlp

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
)

// encodeJSON is protobuf's JSON as OTLP has it: ids are hexadecimal, enumerations
// are numbers, and, as in all of protobuf's, numbers of 64 bits are strings.
// protojson writes none of the first two.
func encodeJSON(d *traces.TracesData) ([]byte, error) {
	out := object{"resourceSpans": list(d.GetResourceSpans(), func(r *traces.ResourceSpans) object {
		return object{
			"resource": object{"attributes": attributes(r.GetResource().GetAttributes())}, "schemaUrl": r.GetSchemaUrl(),
			"scopeSpans": list(r.GetScopeSpans(), func(s *traces.ScopeSpans) object {
				scope := s.GetScope()
				return object{
					"scope":     object{"name": scope.GetName(), "version": scope.GetVersion(), "attributes": attributes(scope.GetAttributes())},
					"schemaUrl": s.GetSchemaUrl(), "spans": list(s.GetSpans(), spanObject),
				}
			}),
		}
	})}
	return json.Marshal(out)
}

type object map[string]any

func list[T any](in []T, one func(T) object) []object {
	out := make([]object, 0, len(in))
	for _, v := range in {
		out = append(out, one(v))
	}
	return out
}

func spanObject(s *traces.Span) object {
	o := object{
		"traceId": hex.EncodeToString(s.GetTraceId()), "spanId": hex.EncodeToString(s.GetSpanId()),
		"traceState": s.GetTraceState(), "flags": s.GetFlags(), "name": s.GetName(), "kind": s.GetKind().Number(),
		"startTimeUnixNano": long(s.GetStartTimeUnixNano()), "endTimeUnixNano": long(s.GetEndTimeUnixNano()),
		"attributes": attributes(s.GetAttributes()), "droppedAttributesCount": s.GetDroppedAttributesCount(),
		"events": list(s.GetEvents(), func(e *traces.Span_Event) object {
			return object{
				"timeUnixNano": long(e.GetTimeUnixNano()), "name": e.GetName(), "attributes": attributes(e.GetAttributes()),
				"droppedAttributesCount": e.GetDroppedAttributesCount(),
			}
		}),
		"droppedEventsCount": s.GetDroppedEventsCount(),
		"links": list(s.GetLinks(), func(l *traces.Span_Link) object {
			return object{
				"traceId": hex.EncodeToString(l.GetTraceId()), "spanId": hex.EncodeToString(l.GetSpanId()), "traceState": l.GetTraceState(),
				"flags": l.GetFlags(), "attributes": attributes(l.GetAttributes()), "droppedAttributesCount": l.GetDroppedAttributesCount(),
			}
		}),
		"droppedLinksCount": s.GetDroppedLinksCount(),
		"status":            object{"code": s.GetStatus().GetCode().Number(), "message": s.GetStatus().GetMessage()},
	}
	if parent := s.GetParentSpanId(); len(parent) > 0 {
		o["parentSpanId"] = hex.EncodeToString(parent)
	}
	return o
}

func long(n uint64) string { return strconv.FormatUint(n, 10) }

func attributes(all []*common.KeyValue) []object {
	return list(all, func(a *common.KeyValue) object {
		return object{"key": a.GetKey(), "value": valueObject(a.GetValue())}
	})
}

func valueObject(v *common.AnyValue) object {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_BoolValue:
		return object{"boolValue": v.BoolValue}
	case *common.AnyValue_IntValue:
		return object{"intValue": strconv.FormatInt(v.IntValue, 10)}
	case *common.AnyValue_DoubleValue:
		if f := v.DoubleValue; math.IsNaN(f) {
			return object{"doubleValue": "NaN"}
		} else if math.IsInf(f, 0) {
			return object{"doubleValue": map[bool]string{true: "-Infinity", false: "Infinity"}[f < 0]}
		}
		return object{"doubleValue": v.DoubleValue}
	case *common.AnyValue_ArrayValue:
		return object{"arrayValue": object{"values": list(v.ArrayValue.GetValues(), valueObject)}}
	default: // the others are none that value makes
		return object{"stringValue": v.(*common.AnyValue_StringValue).StringValue}
	}
}
