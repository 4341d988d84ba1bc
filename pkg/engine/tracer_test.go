package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

type followed struct{}

// follower notes what is begun and how it ends, and gives it a context of its own.
type follower struct {
	mu    sync.Mutex
	lines []string
}

func (f *follower) say(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, fmt.Sprintf(format, args...))
}

func (f *follower) Begin(ctx context.Context, what string, c *moss.Container) (context.Context, func(*moss.Container, error)) {
	f.say("%s of %s, %s", what, c.Name, c.State)
	return context.WithValue(ctx, followed{}, what), func(now *moss.Container, err error) {
		f.say("%s, %s %d, %v", what, now.State, now.Run.ExitCode, err)
	}
}

// told takes what it noted.
func (f *follower) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.lines = nil }()
	return f.lines
}

// followedNetworks tells of the contexts that come through to a port.
type followedNetworks struct {
	*fake.Networks
	f *follower
}

func (n followedNetworks) Attach(ctx context.Context, c *moss.Container) (moss.Attachment, error) {
	n.f.say("attach in %v", ctx.Value(followed{}))
	return n.Networks.Attach(ctx, c)
}

func (n followedNetworks) Detach(ctx context.Context, id moss.ContainerID, a moss.Attachment) error {
	n.f.say("detach in %v", ctx.Value(followed{}))
	return n.Networks.Detach(ctx, id, a)
}

// Whoever follows is told of what no request asks for, and of nothing else; what
// the ports do for it has its context.
func TestTracer(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		f := &follower{}
		r.halt()
		r.wrap = func(d *engine.Deps) { d.Tracer, d.Networks = f, followedNetworks{r.nets, f} }
		r.boot(false)
		want := func(lines ...string) {
			t.Helper()
			settle()
			if got := f.told(); !slices.Equal(got, lines) {
				t.Errorf("got  %q\nwant %q", got, lines)
			}
		}
		ctx := context.WithValue(t.Context(), followed{}, "request")
		id := r.create(named("web"), policy(moss.RestartOnFailure, 1))
		r.must(r.Containers().Start(ctx, "web"))
		want("attach in request")
		r.exit(id, 3)
		time.Sleep(time.Second)
		want("exit of web, running", "detach in exit", "exit, restarting 3, <nil>", "restart of web, restarting", "attach in restart", "restart, running 0, <nil>")
		r.must(r.Containers().Stop(ctx, "web", moss.StopOptions{}))
		want("exit of web, running", "detach in exit", "exit, exited 143, <nil>")
		r.must(r.Containers().Start(ctx, "web"))
		r.crash()
		f.told()
		r.boot(false)
		want("restore of web, running", "restore, running 0, <nil>")
	})
}
