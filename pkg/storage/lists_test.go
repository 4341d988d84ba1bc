package storage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A list is damaged or not whether or not there is a copy that is as long.
func TestDamagedBesideACopy(t *testing.T) {
	long := "[" + strings.Repeat(`{"id":"a"},`, 9000) + `{"id":"b"}]` // in several parts
	spoilt := long[:70000] + strings.Repeat("\x00", 500) + long[70500:]
	for _, c := range []struct {
		name, list, good string
		want             bool
	}{
		{"as its copy", long, long, false},
		{"spoilt at the same length", spoilt, long, true},
		{"another one", strings.ReplaceAll(long, "b", "c"), long, false},
		{"cut short", long[:80000], long[:80000], true},
		{"emptied with its copy", "", "", true},
		{"never filled", "null", "null", false},
		{"of something else", "[5]", long, true},
		{"no list", `{"id":"a"}`, long, true},
	} {
		name := filepath.Join(t.TempDir(), "layers.json")
		must(t, os.WriteFile(name, []byte(c.list), 0o600))
		must(t, os.WriteFile(name+goodSuffix, []byte(c.good), 0o600))
		if got, err := damaged(name); got != c.want || err != nil {
			t.Errorf("%s: damaged is %v, %v", c.name, got, err)
		}
	}
}
