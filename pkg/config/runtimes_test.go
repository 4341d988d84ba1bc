package config

import (
	"strings"
	"testing"
)

func TestRuntimes(t *testing.T) {
	for in, wrong := range map[string]string{
		`{"runtimes":{"mine":{"path":"/usr/bin/crun","runtimeArgs":["--debug"]}},"default-runtime":"mine","init":true}`: "",
		`{"runtimes":{"mine":{"path":""}}}`:                              "either a runtimeType or a path must be configured",
		`{"runtimes":{"moss-runtime":{"path":"/x"}}}`:                    "runtime name 'moss-runtime' is reserved",
		`{"runtimes":{"mine":{"runtimeType":"io.containerd.runsc.v1"}}}`: "containerd's shims",
		`{"runtimes":{"mine":{"path":"/x","options":{"TypeUrl":"x"}}}}`:  "containerd's shims",
		`{"runtimes":{"../mine":{"path":"/x"}}}`:                         "is no name of a runtime",
		`{"runtimes":{"mine":{"path":"/x","nonsense":1}}}`:               "nonsense",
	} {
		c, err := Default("", func(name string) string { return map[string]string{"HOME": "/h", "XDG_RUNTIME_DIR": "/r"}[name] })
		if err != nil {
			t.Fatal(err)
		}
		err = c.decode([]byte(in))
		if (err == nil) != (wrong == "") || err != nil && !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want %q", in, err, wrong)
		}
		if err == nil && (!c.Init || c.DefaultRuntime != "mine" || c.Runtimes["mine"].Path != "/usr/bin/crun" || len(c.Runtimes["mine"].Args) != 1) {
			t.Errorf("%s: %+v", in, c)
		}
	}
}
