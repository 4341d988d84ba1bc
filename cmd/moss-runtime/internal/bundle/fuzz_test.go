package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSpec: a bundle's config.json is refused in words, or has a process that can be started.
func FuzzSpec(f *testing.F) {
	f.Add([]byte(`{"ociVersion":"1.2.0","process":{"args":["sh"],"cwd":"/","user":{"uid":0}},"linux":{"cgroupsPath":"x"}}`))
	f.Add([]byte(`{"process":null}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		spec, _, err := LoadSpec(dir)
		if err != nil || spec.Linux == nil { // which Load refuses
			return
		}
		if err := CheckProcess(spec.Process); err != nil {
			return
		}
		_ = NestedUserNS(spec)
		if len(spec.Process.Args) == 0 {
			t.Errorf("nothing to run in %s", text)
		}
		if _, err := json.Marshal(spec); err != nil {
			t.Error(err)
		}
	})
}
