package main

import (
	"slices"
	"strings"
)

// traceHeaders name the span that each request is below: the one that the caller
// has put into the environment, as OpenTelemetry's programs do for those they run.
func (a *app) traceHeaders() map[string]string {
	parent, state := a.getenv("TRACEPARENT"), a.getenv("TRACESTATE")
	if !isTraceparent(parent) || !propagates(a.getenv("OTEL_PROPAGATORS")) {
		return nil
	}
	headers := map[string]string{"traceparent": parent}
	if state != "" && printable(state) {
		headers["tracestate"] = state
	}
	return headers
}

// isTraceparent says whether a text can be that header of W3C's Trace Context: version,
// trace, span and flags in hexadecimal. A later version may have more.
func isTraceparent(text string) bool {
	fields := strings.SplitN(text, "-", 5)
	for i, n := range []int{2, 32, 16, 2} {
		if i >= len(fields) || len(fields[i]) != n || strings.Trim(fields[i], "0123456789abcdef") != "" {
			return false
		}
	}
	return printable(text)
}

// printable says whether a header can have this value.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// propagates says whether OTEL_PROPAGATORS, unless empty, has the one that we know.
func propagates(text string) bool {
	if strings.TrimSpace(text) == "" {
		return true
	}
	names := strings.Split(text, ",")
	return slices.ContainsFunc(names, func(n string) bool { return strings.TrimSpace(n) == "tracecontext" })
}
