package config

import (
	"strings"
	"testing"
	"time"
)

func TestIdle(t *testing.T) {
	for text, want := range map[string]string{
		`{"idle-timeout": "10m"}`:  "10m0s",
		`{"idle-timeout": "0"}`:    "0s",
		`{}`:                       "0s",
		`{"idle-timeout": "10"}`:   "not a time of a second or more",
		`{"idle-timeout": "10ms"}`: "not a time of a second or more",
		`{"idle-timeout": "-1h"}`:  "not a time of a second or more",
		`{"idle-timeout": "1h", "hosts": ["tcp://127.0.0.1:1"]}`: "take it out of hosts",
		`{"idle-timeout": "1h", "metrics-addr": "127.0.0.1:1"}`:  "unset metrics-addr",
		`{"idle-timeout": "0", "metrics-addr": "127.0.0.1:1"}`:   "0s",
	} {
		c, err := Default("", func(string) string { return "/x" })
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err = c.decode([]byte(text)); err != nil {
			got = err.Error()
		} else {
			got = c.Idle().Round(time.Millisecond).String()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
