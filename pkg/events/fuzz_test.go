package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzDisk: whatever an earlier daemon has left, what is written now is read
// back as it was, after what there was, and no line becomes two.
func FuzzDisk(f *testing.F) {
	const whole = `{"time":"2026-01-02T03:04:05.6Z","type":"container","action":"die","actor":"a","attributes":{"name":"b\n"}}`
	f.Add([]byte(whole+"\n"), []byte(whole+"\n"+whole+"\n"), "die")
	f.Add([]byte(whole), []byte(whole[:20]), "exec_start: sh -c \n")
	f.Add([]byte("null\n{}\n[]\n"), []byte("\n\x00\n"), "")
	f.Add([]byte(`{"time":"9999-12-31T23:59:59Z"}`), []byte(`{"time":"0001-01-01T00:00:00Z"}`), "\xff")
	f.Fuzz(func(t *testing.T, older, now []byte, action string) {
		path := filepath.Join(t.TempDir(), "e")
		if err := errors.Join(os.WriteFile(path+".1", older, 0o600), os.WriteFile(path, now, 0o600)); err != nil {
			t.Fatal(err)
		}
		read := func(d *disk) (all []moss.Event) {
			p, err := d.past()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.close() }() // only read
			beginning := time.Date(-200, 1, 1, 0, 0, 0, 0, time.UTC)
			if err := p.read(beginning, func(e moss.Event) error { all = append(all, e); return nil }); err != nil {
				t.Fatal(err)
			}
			return all
		}
		action = strings.ToValidUTF8(action, "\uFFFD")
		d, err := openDisk(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = d.file.Close() }()
		before := read(d)
		if lines := bytes.Count(older, []byte("\n")) + bytes.Count(now, []byte("\n")) + 1; len(before) > lines {
			t.Errorf("%d lines have %d events", lines, len(before))
		}
		e := moss.Event{Type: moss.ContainerEvent, Action: action, ActorID: "a", Attributes: map[string]string{"name": action}, Time: time.Unix(1, 2).UTC()}
		if err := d.write(e); err != nil {
			t.Fatal(err)
		}
		if st, err := d.file.Stat(); err != nil || st.Size() != d.size {
			t.Errorf("the file has %d bytes, not %d: %v", st.Size(), d.size, err)
		}
		again, err := openDisk(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = again.file.Close() }()
		for _, after := range [][]moss.Event{read(d), read(again)} {
			if got, want := text(t, after), text(t, append(before, e)); got != want {
				t.Errorf("read %s, want %s", got, want)
			}
		}
		for _, e := range before {
			if e.Time.IsZero() {
				t.Errorf("an event without a time: %+v", e)
			}
		}
	})
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
