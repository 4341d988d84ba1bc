package records

import (
	"encoding/json"
	"testing"

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
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		c, err := decode([]byte(key), value)
		if err != nil {
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
