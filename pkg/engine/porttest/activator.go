package porttest

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Activator tests an [engine.Activator] that holds nothing yet. The ports are
// ones that nobody has at 127.0.0.1.
func Activator(t *testing.T, a engine.Activator, ports [2]uint16) {
	at := func(port uint16) moss.PortBinding {
		return moss.PortBinding{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}
	}
	held := func(want ...string) {
		t.Helper()
		got, err := a.Held(t.Context())
		must(t, err)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("held for %q, want %q", got, want)
		}
	}
	one := moss.HeldPorts{ID: newID(), Name: "one", Ports: []moss.PortBinding{at(ports[0]), at(ports[1])}}
	two := moss.HeldPorts{ID: newID(), Name: "two", Ports: []moss.PortBinding{at(ports[1])}}
	t.Cleanup(func() {
		for _, h := range []moss.HeldPorts{one, two} {
			if err := a.Release(context.WithoutCancel(t.Context()), h.ID); err != nil {
				t.Error(err)
			}
		}
	})
	held()
	must(t, a.Hold(t.Context(), one))
	must(t, a.Hold(t.Context(), one)) // it is there
	held(one.ID.Short())
	if err := a.Hold(t.Context(), two); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("a port is held twice: %v", err)
	}
	held(one.ID.Short())
	must(t, a.Release(t.Context(), one.ID))
	must(t, a.Release(t.Context(), one.ID)) // nothing is left
	held()
	must(t, a.Hold(t.Context(), two))
	held(two.ID.Short())
	must(t, a.Release(t.Context(), two.ID))
}

// FreePorts are two that nobody has at 127.0.0.1.
func FreePorts(t *testing.T) (ports [2]uint16) {
	t.Helper()
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // both at once, so that they differ
		ports[i] = uint16(l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
