package units

import (
	"fmt"
	"net/netip"
	"testing"

	sd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/moss-containers/moss/pkg/entry"
	"github.com/moss-containers/moss/pkg/moss"
)

// A container that takes connections itself: one more socket, the last, is where it gets the others.
func TestEntryOfAListener(t *testing.T) {
	id := moss.ContainerID(moss.NewHexID())
	addrs := []entry.Address{{At: netip.MustParseAddrPort("127.0.0.1:8080"), Port: 80}}
	o := Options{EntrySockets: "/run/x", Entry: moss.Launch{Args: []string{"/bin/forward"}}}
	find := func(props []sd.Property, name string) any {
		for _, p := range props {
			if p.Name == name {
				return p.Value.Value()
			}
		}
		t.Fatalf("no %s", name)
		return nil
	}
	for listen, want := range map[bool][2]string{
		false: {"[{Stream 127.0.0.1:8080}]", "[/bin/forward " + string(id) + " 0s 80]"},
		true:  {"[{Stream 127.0.0.1:8080} {Stream " + moss.EntrySocket("/run/x", id) + "}]", "[/bin/forward " + string(id) + " listen-fds 80]"},
	} {
		socket, service := entryProperties(moss.HeldPorts{ID: id, Listen: listen}, addrs, o)
		if got := fmt.Sprint(find(socket, "Listen")); got != want[0] {
			t.Errorf("listens at %s, want %s", got, want[0])
		}
		if got := fmt.Sprint(find(service, "ExecStart").([]execStart)[0].Args); got != want[1] {
			t.Errorf("runs %s, want %s", got, want[1])
		}
	}
}
