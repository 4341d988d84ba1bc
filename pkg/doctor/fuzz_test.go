package doctor

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/moss-containers/moss/userns"
)

// FuzzSubIDs: where the holder of the namespaces takes a user's ranges, the doctor counts the same.
func FuzzSubIDs(f *testing.F) {
	f.Add("alice:100000:65536\nbob:165536:65536\n")
	f.Add("1000:100000:65536\nalice:4294967295:1\n")
	f.Add("# alice:1:2\n alice : 1:2\nalice:1:2:3\nalice:1:\n")
	f.Fuzz(func(t *testing.T, text string) {
		count, free := countSubIDs(text, "alice", 1000)
		if free > 2*math.MaxUint32 {
			t.Errorf("%q ends at %d", text, free)
		}
		path := filepath.Join(t.TempDir(), "subuid")
		none := filepath.Join(t.TempDir(), "none")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ranges, err := userns.Source{SubUID: path, SubGID: path, NSSwitch: none, Getsubids: none}.Ranges(t.Context(), userns.User{Name: "alice", UID: 1000}, false)
		if err != nil {
			return
		}
		var want uint64
		for _, r := range ranges {
			want += uint64(r.Count)
			if end := uint64(r.Start) + uint64(r.Count); end > free {
				t.Errorf("%q: the next free id is %d, and a range ends at %d", text, free, end)
			}
		}
		if count != want {
			t.Errorf("%q has %d ids, and for the holder %d", text, count, want)
		}
	})
}
