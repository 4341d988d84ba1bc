package record

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzRecord: a record may be anything. One that is read is the container's own, names a process, and can be written.
func FuzzRecord(f *testing.F) {
	f.Add("a", []byte(`{"id":"a","ociVersion":"1.2.0","pid":5,"startTime":9,"created":"2024-01-01T00:00:00Z","bundle":"/b","cgroup":"/c","annotations":{"x":"y"}}`))
	f.Add("a", []byte(`{"id":"b","pid":5}`))
	f.Add("a", []byte(`{"id":"a","pid":-1}`))
	f.Add("a", []byte(`null`))
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		r, err := decode(id, data)
		if err != nil {
			return
		}
		if r.ID != id || r.Pid <= 0 {
			t.Errorf("%s is read as %+v", data, r)
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal("it cannot be written:", err)
		}
		back, err := decode(id, again)
		if err != nil || !back.Created.Equal(r.Created) {
			t.Fatalf("%s is read back as %+v, %v", again, back, err)
		}
		back.Created = r.Created // as a time zone's name may be
		if len(r.Annotations) == 0 {
			back.Annotations = r.Annotations
		}
		if !reflect.DeepEqual(r, back) {
			t.Errorf("%s is read back as %+v", again, back)
		}
	})
}

// FuzzDir: an id is refused or names a directory directly below the root.
func FuzzDir(f *testing.F) {
	for _, id := range []string{"a", "..", ".", "", "a/b", "a\x00", "+_-.", "..."} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		dir, err := Dir("/run/root", id)
		if err == nil && (filepath.Dir(dir) != "/run/root" || filepath.Base(dir) != id) {
			t.Errorf("%q is at %s", id, dir)
		}
	})
}

// FuzzStat: start and state are found whatever a process calls itself.
func FuzzStat(f *testing.F) {
	f.Add("sh", uint64(5), "")
	f.Add(") Z 1 2 3 (", uint64(1<<64-1), "1 (a) S 1")
	f.Fuzz(func(t *testing.T, comm string, start uint64, text string) {
		_, _, _ = parseStat(text)
		line := fmt.Sprintf("12 (%s) S %s%d 4096 7\n", comm, strings.Repeat("0 ", 18), start)
		if got, state, ok := parseStat(line); !ok || got != start || state != 'S' {
			t.Errorf("%q: %d, %c, %v", line, got, state, ok)
		}
	})
}
