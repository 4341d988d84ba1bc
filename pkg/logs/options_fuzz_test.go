package logs

import (
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzOptions: a user's options of any driver are refused in words, or make sense.
func FuzzOptions(f *testing.F) {
	for _, driver := range []string{"json-file", "local", "journald", "none", "syslog", "gelf", "fluentd", "other"} {
		f.Add(driver, "max-size", "10k", "tag", "{{.Name}}")
	}
	f.Add("syslog", "syslog-address", "tcp+tls://[::1]:6514", "syslog-facility", "local7")
	f.Add("fluentd", "fluentd-address", "unix:///x", "fluentd-retry-wait", "1s")
	f.Add("gelf", "gelf-address", "udp://h:1", "gelf-compression-level", "-1")
	f.Fuzz(func(t *testing.T, driver, k1, v1, k2, v2 string) {
		_, err := parse(moss.LogConfig{Driver: driver, Options: map[string]string{k1: v1, k2: v2}})
		if err != nil {
			if c := moss.ClassOf(err); c != moss.Invalid && c != moss.NotImplemented {
				t.Errorf("%v is %v", err, c)
			}
		}
	})
}
