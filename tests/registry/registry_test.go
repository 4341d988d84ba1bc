package registry

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The faults are what they say, or tests of what stands them would prove nothing.
func TestFaults(t *testing.T) {
	r := New(t, Options{})
	p := NewProxy(t, r)
	m := Remote{URL: "http://" + p.Host, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	made := m.Push(t, "a", "v1", Image{Layers: []Layer{{Size: 1000, Plain: true, Seed: 1}}})
	path := "/v2/a/blobs/" + made.Layers[0].Digest.String()
	_, whole, err := m.Do(http.MethodGet, path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]Fault{
		"dropped": {DropAfter: 100}, "reset": {DropAfter: -1}, "truncated": {Truncate: 100}, "corrupt": {Corrupt: 100}, "status": {Status: 503},
	} {
		f.Path, f.Times = "/blobs/", 1
		p.Fault(f)
		_, got, err := m.Do(http.MethodGet, path, "", nil)
		bad := map[string]bool{
			"dropped": err != nil && bytes.Equal(got, whole[:100]), "reset": err != nil && len(got) == 0,
			"truncated": err == nil && bytes.Equal(got, whole[:100]),
			"corrupt":   err == nil && len(got) == len(whole) && got[99] != whole[99], "status": err != nil,
		}[name]
		if !bad {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(whole), err)
		}
		if _, got, err = m.Do(http.MethodGet, path, "", nil); err != nil || !bytes.Equal(got, whole) {
			t.Errorf("%s once, and then %v", name, err)
		}
	}
}

func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: Commands()})
}
