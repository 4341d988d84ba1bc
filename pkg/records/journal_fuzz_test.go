package records

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzJournal: whatever a killed daemon has left, lines that come behind it are
// read as they were written, and both readers agree on a clean end.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"b":"containers","k":"a","v":"{}"}`+"\n"+`{"closed":5}`+"\n"), "a", "x\n")
	f.Add([]byte(`{"closed":5}`+"\n"+`{"b":"contai`), "a", "")
	f.Add([]byte(`{"closed":5}`+"\n\n"), "", "{\"closed\":7}")
	f.Add([]byte(`{"closed":5}`), "b", "")
	f.Add([]byte("null\n[]\n"), "c", "\u2028")
	f.Fuzz(func(t *testing.T, left []byte, key, value string) {
		path := filepath.Join(t.TempDir(), "j")
		put := func(text []byte) {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put(left)
		before, closed, err := readJournal(path)
		if err != nil {
			t.Fatal(err)
		}
		if last := lastClosed(path); last != 0 && last != closed {
			t.Errorf("%q ends with the transaction %d, and %d", left, closed, last)
		}
		if len(left) > 0 && !bytes.HasSuffix(left, []byte("\n")) {
			left = append(bytes.Clone(left), '\n')
		}
		key, value = string(bytes.ToValidUTF8([]byte(key), []byte("?"))), string(bytes.ToValidUTF8([]byte(value), []byte("?")))
		text := append(bytes.Clone(left), entry{Bucket: "containers", Key: key, Value: &value}.line()...)
		text = append(text, entry{Bucket: "meta", Key: key}.line()...)
		put(append(text, entry{Closed: 9}.line()...))
		after, closed, err := readJournal(path)
		if err != nil || closed != 9 || lastClosed(path) != 9 {
			t.Errorf("%d, %d, %v", closed, lastClosed(path), err)
		}
		if got, ok := after["containers"][key]; !ok || got != value {
			t.Errorf("%q is read back as %q", value, got)
		}
		if _, ok := after["meta"][key]; ok {
			t.Errorf("what is deleted is there")
		}
		for k, v := range before["containers"] {
			if got := after["containers"][k]; k != key && got != v {
				t.Errorf("%q was %q and is %q", k, v, got)
			}
		}
	})
}
