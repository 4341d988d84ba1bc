package api

import (
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

// What is asked for is what inspect tells.
func TestHostPorts(t *testing.T) {
	for text, want := range map[string]string{"": "", "0": "", "80": "80", "80-80": "80", "8000-8009": "8000-8009"} {
		first, last, err := hostPorts(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		shown := encodeBindings([]moss.PortBinding{{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostPort: first, HostPortEnd: last}})
		if got := shown[network.MustParsePort("80/tcp")]; len(got) != 1 || got[0].HostPort != want {
			t.Errorf("%q is shown as %+v, want %q", text, got, want)
		}
	}
}
