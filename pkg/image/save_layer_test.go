package image

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	tarsplit "github.com/vbatts/tar-split/tar/storage"
)

// The quick way to read a line finds what the slow one does.
func FuzzEntry(f *testing.F) {
	for _, line := range []string{
		`{"type":2,"payload":"aGVsbG8=","position":0}`,
		`{"type":1,"name":"a/b","size":3,"payload":"AAAAAAAAAAA=","position":1}`,
		`{"type":1,"name":"a\"b","size":3,"payload":"AAAAAAAAAAA=","position":1}`,
		`{"type":1,"name_raw":"/w==","size":3,"payload":"AAAAAAAAAAA=","position":1}`,
		`{"type":2,"payload":"a","position":0}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var want tarsplit.Entry
		if json.Unmarshal(line, &want) != nil || !utf8.Valid(line) {
			return // no line that was written
		}
		if enc, err := json.Marshal(want); err != nil || !bytes.Equal(enc, line) {
			return
		}
		got, ok := (&joiner{}).quickEntry(line)
		if ok && (got.Type != want.Type || got.Size != want.Size && want.Type == tarsplit.FileType || got.GetName() != want.GetName() || want.Type == tarsplit.SegmentType && !bytes.Equal(got.Payload, want.Payload)) {
			t.Errorf("%s is %+v, want %+v", line, got, want)
		}
	})
}
