package engine_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// A port that a container has is refused with that container's name, also after a rename.
func TestPublishedTwice(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		first := r.run(named("first"), published)
		r.must(r.Containers().Rename(t.Context(), "first", "renamed"))
		second := r.create(named("second"), published)
		err := r.Containers().Start(t.Context(), "second")
		r.wantClass(err, moss.Conflict)
		if text := err.Error(); !strings.Contains(text, "Bind for 0.0.0.0:8080 failed: port is already allocated: container renamed publishes it") {
			t.Errorf("refused with: %s", text)
		}
		r.check()
		// Nobody of ours has it: the driver's own word.
		third := r.create(named("third"), func(q *moss.CreateRequest) {
			q.Host.PortBindings = []moss.PortBinding{{Port: moss.Port{Number: 80, Proto: moss.TCP}, HostPort: 80, HostIP: netip.MustParseAddr("127.0.0.1")}}
		})
		r.wantClass(r.Containers().Start(t.Context(), "third"), moss.Forbidden)
		r.exit(first, 0)
		r.start(second)
		r.exit(second, 0)
		for _, id := range []moss.ContainerID{first, second, third} {
			r.must(r.remove(id, false))
		}
		r.checkEmpty()
	})
}
