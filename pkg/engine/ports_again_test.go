package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// Ports go with the last network that leads to them, and come with the next.
func TestPortsComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(named("web"), published)
		before := r.get("web").Network.Published
		if len(before) == 0 {
			t.Fatal("no port is published")
		}
		r.must(r.Networking().Disconnect(t.Context(), "bridge", "web", false))
		if got := r.get("web").Network.Published; len(got) > 0 {
			t.Errorf("without a network: %v", got)
		}
		other := r.run(named("other"), published) // has its port meanwhile
		r.wantClass(r.Networking().Connect(t.Context(), "bridge", "web", moss.Endpoint{}), moss.Conflict)
		if got := r.get("web").Network; len(got.Interfaces()) > 0 || len(got.Published) > 0 {
			t.Errorf("a connection that was refused: %+v", got)
		}
		r.must(r.remove(other, true))
		r.must(r.Networking().Connect(t.Context(), "bridge", "web", moss.Endpoint{}))
		if got := r.get("web").Network.Published; len(got) != len(before) || got[0].Binding != before[0].Binding {
			t.Errorf("connected again: %v, before: %v", got, before)
		}
		r.must(r.remove(id, true))
		var told []string
		for _, e := range r.events.Of(string(id)) {
			if strings.HasSuffix(e.Action, "publish") {
				told = append(told, e.Action+" "+e.Attributes["port"]+" "+e.Attributes["hostPort"])
			}
		}
		b := before[0].Binding
		at := fmt.Sprintf("%d/%s %d", b.Port.Number, b.Port.Proto, b.HostPort)
		if want := []string{"publish " + at, "unpublish " + at, "publish " + at, "unpublish " + at}; !slices.Equal(told, want) {
			t.Errorf("events are %q, want %q", told, want)
		}
	})
}
