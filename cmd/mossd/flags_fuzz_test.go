package main

import (
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/config"
)

// FuzzFlags gives every flag anything: no panic, and what is refused is told by
// the flag's name, or its key's, in one sentence.
func FuzzFlags(f *testing.F) {
	values := []string{"", "x", "-1", "0", "1", "true", "maybe", "1e9", "99999999999999999999", "a=b", "=", "=b", "a=b,c=d", ",", "tcp://", "unix://", "tcp://127.0.0.1:99999", "fd://x", "ssh://a", "10.0.0.1", "10.0.0.1/24", "fd00::1/64", "::", "/", "/nonexistent", "../x", "\x00", "é\u202e", "%s", "{}", strings.Repeat("x", 5000), "--debug", "-"}
	for i := range config.Settings() {
		for j, v := range values {
			if (i+j)%12 == 0 { // all of them take long with the race detector; make fuzz has the time
				f.Add(uint16(i), v, (i+j)%24 == 0)
			}
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, row uint16, value string, joined bool) {
		all := config.Settings()
		s := all[int(row)%len(all)]
		if s.Flag == "" {
			return
		}
		env := func(k string) string {
			return map[string]string{"XDG_RUNTIME_DIR": dir, "HOME": dir}[k]
		}
		args := []string{"mossd", "--validate", "--" + s.Flag, value}
		if joined || s.Kind == config.Yes {
			args = []string{"mossd", "--validate", "--" + s.Flag + "=" + value}
		}
		err := run(t.Context(), args, env)
		if err == nil {
			return
		}
		text := err.Error()
		if !strings.Contains(text, s.Flag) && !strings.Contains(text, s.Key) && !(s.Key == "tlsverify" && strings.Contains(text, `"tls"`)) {
			t.Errorf("%q: %q does not name the flag", args, text)
		}
		if strings.Contains(text, "\n") && !strings.Contains(value, "\n") {
			t.Errorf("%q: %q is more than one line", args, text)
		}
	})
}
