package engine_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestActivator(t *testing.T) { porttest.Activator(t, new(fake.Activator), [2]uint16{8080, 8081}) }

func activated(port uint16) option {
	return func(q *moss.CreateRequest) {
		q.Host.Annotations = map[string]string{"moss.activate": "true"}
		q.Host.PortBindings = []moss.PortBinding{{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}
	}
}

// Ports are held from the making of a container to its removal, whatever it does meanwhile.
func TestHeldPorts(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		held := func(want ...moss.ContainerID) {
			t.Helper()
			got, err := r.ports.Held(t.Context())
			r.must(err)
			var shorts []string
			for _, id := range want {
				shorts = append(shorts, id.Short())
			}
			slices.Sort(shorts)
			if !slices.Equal(got, shorts) {
				t.Errorf("held for %q, want %q", got, shorts)
			}
		}
		id := r.create(named("web"), activated(8080))
		held(id)
		r.must(r.Containers().Start(t.Context(), "web"))
		if p := r.get("web").Network.Published; len(p) > 0 {
			t.Errorf("the network has published %v", p)
		}
		r.crash()
		r.boot(false)
		held(id)
		// After a boot of the machine they are held again, and what is nobody's is not.
		r.must(r.ports.Release(t.Context(), id))
		r.must(r.ports.Hold(t.Context(), moss.HeldPorts{ID: moss.ContainerID(moss.NewHexID())}))
		r.crash()
		r.boot(true)
		held(id)
		r.must(r.remove(id, true))
		held()
	})
}

// Ports that name no address are held where the setting wants them published.
func TestHeldAt(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.publishIP = netip.MustParseAddr("127.0.0.2")
		r.crash()
		r.boot(false)
		id := r.create(named("web"), activated(8080), func(q *moss.CreateRequest) {
			q.Host.PortBindings = append(q.Host.PortBindings, moss.PortBinding{Port: moss.Port{Number: 81, Proto: moss.TCP}, HostPort: 8081})
		})
		for i, want := range []string{"127.0.0.1", "127.0.0.2"} {
			if got := r.get("web").Host.PortBindings[i].HostIP.String(); got != want {
				t.Errorf("port %d is held at %s, want %s", i, got, want)
			}
		}
		r.must(r.remove(id, true))
	})
}

func TestWhatCannotBeActivated(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for name, spoil := range map[string]option{
			"no port":         func(q *moss.CreateRequest) { q.Host.PortBindings = nil },
			"udp":             func(q *moss.CreateRequest) { q.Host.PortBindings[0].Port.Proto = moss.UDP },
			"any port":        func(q *moss.CreateRequest) { q.Host.PortBindings[0].HostPort = 0 },
			"a range":         func(q *moss.CreateRequest) { q.Host.PortBindings[0].HostPortEnd = 8090 },
			"all ports":       func(q *moss.CreateRequest) { q.Host.PublishAll = true },
			"gone at its end": func(q *moss.CreateRequest) { q.Host.AutoRemove = true },
			"no network":      func(q *moss.CreateRequest) { q.Host.NetworkMode = moss.NetworkNone },
			"rubbish":         func(q *moss.CreateRequest) { q.Host.Annotations["moss.activate"] = "rubbish" },
		} {
			if _, err := r.tryCreate(named("web"), activated(8080), spoil); moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%s: %v", name, err)
			}
		}
		if held, err := r.ports.Held(t.Context()); err != nil || len(held) > 0 {
			t.Errorf("held: %q, %v", held, err)
		}
		r.create(named("web"), activated(8080))
		if _, err := r.tryCreate(named("other"), activated(8080)); moss.ClassOf(err) != moss.Conflict {
			t.Errorf("a port is held twice: %v", err)
		}
		if !r.gone("other") {
			t.Error("it is there, without its port")
		}
	})
}
