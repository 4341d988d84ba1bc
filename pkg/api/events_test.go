package api

import (
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestEventFilters(t *testing.T) {
	web := func(action string) moss.Event {
		return moss.Event{Type: moss.ContainerEvent, Action: action, ActorID: "abcdef0123", Attributes: map[string]string{"name": "web", "image": "docker.example:5000/box:1", "tier": "front"}}
	}
	image := moss.Event{Type: moss.ImageEvent, Action: "tag", ActorID: "sha256:1234", Attributes: map[string]string{"name": "box:1"}}
	bridge := moss.Event{Type: moss.NetworkEvent, Action: "connect", ActorID: "aaa1", Attributes: map[string]string{"name": "bridge", "container": "abcdef0123"}}
	volume := moss.Event{Type: "volume", Action: "mount", ActorID: "data"}
	daemon := moss.Event{Type: moss.DaemonEvent, Action: "reload", ActorID: "daemon-id", Attributes: map[string]string{"name": "host"}}
	for _, tc := range []struct {
		filters string
		e       moss.Event
		want    bool
	}{
		{``, web("start"), true},
		{`{"type":["container"]}`, web("start"), true},
		{`{"type":["image","network"]}`, web("start"), false},
		{`{"type":["image","network"]}`, bridge, true},
		{`{"event":["start","die"]}`, web("die"), true},
		{`{"event":["start"]}`, web("stop"), false},
		{`{"event":["exec_create"]}`, web("exec_create: sh -c x"), true},
		{`{"event":["exec_create: sh -c x"]}`, web("exec_create: sh -c x"), true},
		{`{"event":["exec_create: sh"]}`, web("exec_create: sh -c x"), false},
		{`{"event":["exec_start"]}`, web("exec_create: sh -c x"), false},
		{`{"event":["health_status"]}`, web("health_status: healthy"), true},
		{`{"event":["health_status: unhealthy"]}`, web("health_status: healthy"), false},
		{`{"container":["web"]}`, web("start"), true},
		{`{"container":["abcd","other"]}`, web("start"), true},
		{`{"container":["bcde"]}`, web("start"), false},
		{`{"container":["web"]}`, image, false},
		{`{"image":["docker.example:5000/box"]}`, web("start"), true},
		{`{"image":["docker.example:5000/box:1"]}`, web("start"), true},
		{`{"image":["docker.example:5000/box:2"]}`, web("start"), false},
		{`{"image":["box"]}`, image, true},
		{`{"image":["sha256:1234"]}`, image, true},
		{`{"image":["box"]}`, volume, false},
		{`{"label":["tier"]}`, web("start"), true},
		{`{"label":["tier=front"]}`, web("start"), true},
		{`{"label":["tier=front","x"]}`, web("start"), false},
		{`{"network":["bridge"]}`, bridge, true},
		{`{"network":["aaa"]}`, bridge, true},
		{`{"network":["host"]}`, bridge, false},
		{`{"volume":["data"]}`, volume, true},
		{`{"volume":["other"]}`, volume, false},
		{`{"daemon":["host"]}`, daemon, true},
		{`{"daemon":["daemon-id"]}`, daemon, true},
		{`{"daemon":["other"]}`, daemon, false},
		{`{"scope":["local"]}`, web("start"), true},
		{`{"scope":["swarm"]}`, web("start"), false},
		{`{"type":{"container":true},"event":{"start":true}}`, web("start"), true},
	} {
		f, err := parseFilters(tc.filters, eventFilters...)
		if err != nil {
			t.Fatal(tc.filters, err)
		}
		if got := f.matchEvent(tc.e); got != tc.want {
			t.Errorf("%s of %s %q: %v", tc.filters, tc.e.Type, tc.e.Action, got)
		}
	}
}
