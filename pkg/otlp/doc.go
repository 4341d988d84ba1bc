// Package otlp sends spans to a collector: an exporter of OpenTelemetry's SDK
// that speaks OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp), as
// protobuf or as JSON, and reads the variables that the specification of
// exporters has for it (docs/adr/0017-an-exporter-of-our-own.md).
package otlp
