package otlp

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	all := map[string]string{}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		all[name] = value
	}
	return func(name string) string { return all[name] }
}

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want bool
		err  string
	}{
		{nil, false, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT= "}, false, ""},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, true, ""},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:4318"}, true, ""},
		{[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4318"}, false, ""},
		{[]string{"OTEL_TRACES_EXPORTER=otlp"}, true, ""},
		{[]string{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, false, ""},
		{[]string{"OTEL_TRACES_EXPORTER=console"}, false, "there is no exporter OTEL_TRACES_EXPORTER=console"},
		{[]string{"OTEL_SDK_DISABLED=TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, false, ""},
		{[]string{"OTEL_SDK_DISABLED=yes", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, true, ""},
	} {
		got, err := Wanted(env(c.env...))
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %v, %v", c.env, got, err)
		}
	}
}

func TestFromEnv(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string // the endpoint
	}{
		{nil, "http://localhost:4318/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c/base/"}, "https://c/base/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, "http://c:4318/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://[::1]:4318?tenant=a"}, "http://[::1]:4318/v1/traces?tenant=a"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://t:1", "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318"}, "http://t:1/"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://t:1/in"}, "http://t:1/in"},
	} {
		got, err := FromEnv(env(c.env...))
		if err != nil || got.Endpoint.String() != c.want || got.Timeout != 10*time.Second || got.Gzip || got.JSON || got.TLS != nil || len(got.Headers) != 0 {
			t.Errorf("%v: %+v, %v", c.env, got, err)
		}
	}
	got, err := FromEnv(env("OTEL_EXPORTER_OTLP_TIMEOUT=1", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=250", "OTEL_EXPORTER_OTLP_PROTOCOL=http/json",
		"OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20eA==,x-a=1,x-a=2,"))
	want := http.Header{"Authorization": {"Basic eA=="}, "X-A": {"1", "2"}}
	if err != nil || got.Timeout != 250*time.Millisecond || !got.JSON || !got.Gzip || !reflect.DeepEqual(got.Headers, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// What is wrong says which variable it is, and no secret.
func TestFromEnvWrong(t *testing.T) {
	for _, c := range [][2]string{
		{"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "moss does not speak OTEL_EXPORTER_OTLP_PROTOCOL=grpc: set http/protobuf"},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http is none of"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION=zstd", "is none of gzip, none"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT=10s", "is no number of milliseconds"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT=0", "is no number of milliseconds"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318", "is no URL like http://localhost:4318"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=unix:///run/x", "is no URL like"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=grpc://u:sesame@c:4317", "OTEL_EXPORTER_OTLP_ENDPOINT=grpc://u:xxxxx@c:4317 is no URL like"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://u:sesame@c:port", "OTEL_EXPORTER_OTLP_ENDPOINT is no URL: invalid port"},
		{"OTEL_EXPORTER_OTLP_HEADERS=sesame", "OTEL_EXPORTER_OTLP_HEADERS: not a list like"},
		{"OTEL_EXPORTER_OTLP_HEADERS=key: sesame=x", "not a list like"},
		{"OTEL_EXPORTER_OTLP_HEADERS=key=sesame%0d", "the value of key cannot be sent"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere", "OTEL_EXPORTER_OTLP_CERTIFICATE: open /nowhere"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE=/dev/null", "there is no certificate in /dev/null"},
		{"OTEL_EXPORTER_OTLP_CLIENT_KEY=/nowhere", "are set together or not at all"},
	} {
		_, err := FromEnv(env(c[0]))
		if err == nil || !strings.Contains(err.Error(), c[1]) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", c[0], err)
		}
	}
}
