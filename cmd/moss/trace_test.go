package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTraceOfTheEnvironment(t *testing.T) {
	const parent = "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01"
	var got http.Header
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("Api-Version", "1.50")
		_, _ = w.Write([]byte("[]")) // the client notices
	}))
	defer s.Close()
	for _, test := range []struct {
		env                map[string]string
		wantParent, wantSt string
	}{
		{nil, "", ""},
		{map[string]string{"TRACESTATE": "a=b"}, "", ""},
		{map[string]string{"TRACEPARENT": parent}, parent, ""},
		{map[string]string{"TRACEPARENT": parent, "TRACESTATE": "a=b,c=d"}, parent, "a=b,c=d"},
		{map[string]string{"TRACEPARENT": "01" + parent[2:] + "-more"}, "01" + parent[2:] + "-more", ""},
		{map[string]string{"TRACEPARENT": parent, "OTEL_PROPAGATORS": "baggage, tracecontext"}, parent, ""},
		{map[string]string{"TRACEPARENT": parent, "OTEL_PROPAGATORS": "none"}, "", ""},
		{map[string]string{"TRACEPARENT": "no trace"}, "", ""},
		{map[string]string{"TRACEPARENT": parent + "\n"}, "", ""},
		{map[string]string{"TRACEPARENT": parent, "TRACESTATE": "a=b\r\nX: y"}, parent, ""},
	} {
		env := map[string]string{"MOSS_HOST": "tcp://" + s.Listener.Addr().String()}
		maps.Copy(env, test.env)
		got = nil
		if code, _, errs := run1(t, env, "ps"); code != 0 {
			t.Errorf("%q: %d %s", test.env, code, errs)
		}
		if p, st := got.Get("Traceparent"), got.Get("Tracestate"); p != test.wantParent || st != test.wantSt {
			t.Errorf("%q: %q %q, want %q %q", test.env, p, st, test.wantParent, test.wantSt)
		}
	}
}
