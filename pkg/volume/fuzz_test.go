package volume

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"unicode"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzRecord: a record on the disk may be anything. It is refused in words, or it is that
// volume's, somebody's to mount, and the same when it is written and read again.
func FuzzRecord(f *testing.F) {
	f.Add("data", []byte(`{"Name":"data","Driver":"local","Options":{"type":"tmpfs","device":"tmpfs","o":"size=1m,ro"},"Labels":{"a":"b"},"Created":"2024-01-01T00:00:00+02:00"}`))
	f.Add("data", []byte(`{"Name":"data","Driver":"ssh","Scope":"global","Status":{"a":1},"Path":"/etc"}`))
	f.Add("data", []byte(`{"Name":"data"}`))
	f.Add("", []byte(`null`))
	f.Add("data", []byte("{\"Created\":\"2024-01-01T00:00:0\xff\x7f02:00\"}"))
	f.Add("a", []byte(`{"Name":"\u001b[2J","Driver":"local"}`))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		v, err := decode(name, text)
		if err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) || len(err.Error()) > 4<<10 || v.Name != "" {
				t.Errorf("%q: %+v, %q", text, v, err)
			}
			return
		}
		if v.Name != name || v.Driver == "" || v.Path != "" || v.Status != nil {
			t.Errorf("%q is read as %+v", text, v)
		}
		if err := checkOptions(v.Options); err != nil && moss.ClassOf(err) != moss.Invalid && moss.ClassOf(err) != moss.NotImplemented {
			t.Errorf("%q: %v is %v", text, err, moss.ClassOf(err))
		}
		if mounts(v) && v.Driver != moss.LocalDriver {
			t.Errorf("%q is mounted by moss and by %q", text, v.Driver)
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal("it cannot be written:", err)
		}
		back, err := decode(name, again)
		if err != nil || back.Driver != v.Driver || back.Scope != v.Scope || !back.Created.Equal(v.Created) || !maps.Equal(back.Options, v.Options) || !maps.Equal(back.Labels, v.Labels) {
			t.Errorf("%s is read back as %+v, %v", again, back, err)
		}
	})
}
