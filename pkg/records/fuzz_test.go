package records

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"unicode"

	"github.com/moss-containers/moss/pkg/moss"
)

// A record on the disk may be anything. One that is read can be written, and is the same then.
func FuzzRecord(f *testing.F) {
	whole, err := json.Marshal(&moss.Container{ID: "a", Host: moss.HostConfig{Links: []moss.Link{{Container: "b", Alias: "c"}}}, Network: &moss.Attachment{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a", whole)
	f.Add("a", []byte(`{"ID":"a","Network":{"Published":[{}],"DNS":["1.2.3.4"],"Address":"10.0.0.1/8"},"Created":"2024-01-01T00:00:00Z"}`))
	f.Add("a", []byte("{\"Created\":\"2024-01-01T00\x7f00:00Z\"}"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		c, err := decode([]byte(key), value)
		if err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%q: %q", value, err)
			}
			return
		}
		_ = c.WantedEndpoints()
		if c.Network != nil {
			_ = c.Network.Interfaces()
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal("it cannot be written:", err)
		}
		if c2, err := decode([]byte(c.ID), again); err != nil || c2.State != c.State || c2.Name != c.Name {
			t.Errorf("%s is read back as %+v, %v", again, c2, err)
		}
	})
}

// FuzzNetwork: the same for networks.
func FuzzNetwork(f *testing.F) {
	f.Add("a", []byte(`{"ID":"a","Name":"n","Driver":"bridge","Created":"2024-01-01T00:00:00Z","Subnet":"10.1.0.0/24","Gateway":"10.1.0.1","Subnet6":"","Gateway6":"","Link":"br-a","Range":"10.1.0.128/25","Reserved":{"x":"10.1.0.9"},"Options":{"a":"b"}}`))
	f.Add("a", []byte(`{"ID":"a","Subnet":"fe80::1%eth0/64"}`))
	f.Add("\x1b", []byte(`{"ID":"\u001b]0;"}`))
	f.Add("", []byte(`null`))
	f.Add("a", []byte("{\"Created\":\"2024-01-01T00\x7f00:00Z\"}"))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		n, err := decodeNetwork([]byte(key), value)
		if err != nil {
			if n.ID != "" || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("%q: %+v, %q", value, n, err)
			}
			return
		}
		again, err := json.Marshal(n)
		if err != nil {
			t.Fatal("it cannot be written:", err)
		}
		back, err := decodeNetwork([]byte(key), again)
		if err != nil || string(n.ID) != key || !back.Created.Equal(n.Created) || !maps.Equal(back.Options, n.Options) || !maps.Equal(back.Labels, n.Labels) || !maps.Equal(back.Reserved, n.Reserved) ||
			back.Subnet != n.Subnet || back.Gateway != n.Gateway || back.Range != n.Range || back.Subnet6 != n.Subnet6 || back.Gateway6 != n.Gateway6 || back.Range6 != n.Range6 || back.Link != n.Link || back.Name != n.Name {
			t.Errorf("%s is read back as %+v, %v", again, back, err)
		}
	})
}
