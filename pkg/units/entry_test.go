package units_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/units"
)

func TestActivator(t *testing.T) {
	needManager(t)
	o := units.Options{Prefix: testPrefix, Entry: moss.Launch{Args: []string{"/bin/false"}}}
	m, err := units.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		run(t, "systemctl", "--user", "stop", strings.ReplaceAll(testPrefix, "-", "_")+".slice")
	})
	porttest.Activator(t, m, porttest.FreePorts(t))
}

// The socket's first connection starts its service, with the sockets.
func TestEntryIsStarted(t *testing.T) {
	needManager(t)
	holder(t)
	out := t.TempDir() + "/out"
	o := units.Options{Prefix: testPrefix, Entry: moss.Launch{
		Args: []string{"/bin/sh", "-c", `echo "$LISTEN_FDS $X $*" >"$0.new"; mv "$0.new" "$0"; exec sleep 60`, out}, Env: []string{"X=y"},
	}}
	m, err := units.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	id := moss.ContainerID(moss.NewHexID())
	ports := porttest.FreePorts(t)
	t.Cleanup(func() {
		if err := m.Release(context.WithoutCancel(t.Context()), id); err != nil {
			t.Error(err)
		}
		if held, err := m.Held(context.WithoutCancel(t.Context())); err != nil || len(held) > 0 {
			t.Errorf("held: %q, %v", held, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	var bindings []moss.PortBinding
	for i, p := range ports {
		bindings = append(bindings, moss.PortBinding{Port: moss.Port{Number: uint16(80 + i), Proto: moss.TCP}, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: p})
	}
	if err := m.Hold(t.Context(), moss.HeldPorts{ID: id, Name: "web", Ports: bindings}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ports[1]))))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want := "2 y " + string(id) + " 0s 80 81\n"
	for { // the manager does not tell when a program has written
		if _, err := os.Stat(out); err == nil {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("it is not started")
		}
	}
	if got, err := os.ReadFile(out); err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
