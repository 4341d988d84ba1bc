package engine_test

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestNetworkEvents(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for mode, kind := range map[moss.NetworkMode]string{moss.NetworkBridge: "bridge", moss.NetworkNone: "null", moss.NetworkHost: "host"} {
			id := r.run(func(q *moss.CreateRequest) { q.Host.NetworkMode = mode })
			net := string(r.get(id).Network.Network)
			r.exit(id, 0)
			if got := r.events.Actions(net); !slices.Equal(got, []string{"connect", "disconnect"}) {
				t.Errorf("%s: events %q", mode, got)
			}
			for _, e := range r.events.Of(net) {
				if a := e.Attributes; e.Type != moss.NetworkEvent || a["container"] != string(id) || a["name"] != string(mode) || a["type"] != kind {
					t.Errorf("%s: %+v", mode, e)
				}
			}
		}
	})
}

func TestListByDescent(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		image := func(digit, name string, layers ...string) {
			r.images.Add(moss.Image{
				ID: moss.ImageID("sha256:" + strings.Repeat(digit, 64)), Names: []string{"docker.io/library/" + name + ":latest"},
				OS: "linux", Architecture: "amd64", DiffIDs: layers,
			})
		}
		image("a", "base", "1", "2")
		image("b", "child", "1", "2", "3")
		image("c", "sibling", "1", "3", "2")
		image("d", "twin", "1", "2")
		for _, name := range []string{"base", "child", "sibling", "twin"} {
			r.create(named("of-"+name), func(q *moss.CreateRequest) { q.Config.Image = name })
		}
		for ancestor, want := range map[string]string{"base": "of-base of-child", "child": "of-child", "nobody": ""} {
			list, err := r.Views().List(moss.ContainerFilter{All: true, Ancestors: []string{ancestor}})
			r.must(err)
			var names []string
			for _, c := range list {
				names = append(names, c.Name)
			}
			slices.Sort(names)
			if got := strings.Join(names, " "); got != want {
				t.Errorf("of %s: %q, want %q", ancestor, got, want)
			}
		}
	})
}

func TestListByPortThatWasChosen(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(func(q *moss.CreateRequest) {
			q.Host.PublishAll, q.Config.ExposedPorts = true, []moss.Port{{Number: 81, Proto: moss.TCP}}
		})
		f := moss.ContainerFilter{All: true, Publish: []string{"81/tcp"}}
		if list, err := r.Views().List(f); err != nil || len(list) != 1 {
			t.Errorf("%d found, %v", len(list), err)
		}
		r.exit(id, 0)
		if list, err := r.Views().List(f); err != nil || len(list) != 0 {
			t.Errorf("%d found of those that have ended, %v", len(list), err)
		}
	})
}

func TestResizeEvent(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.run(func(q *moss.CreateRequest) { q.Config.TTY = true })
		r.must(r.Signals().Resize(t.Context(), string(id), moss.TermSize{Rows: 24, Cols: 80}))
		all := r.events.Of(string(id))
		if e := all[len(all)-1]; e.Action != "resize" || e.Attributes["height"] != "24" || e.Attributes["width"] != "80" || time.Since(e.Time) > time.Minute {
			t.Errorf("%+v", e)
		}
	})
}

func TestExecDetachEvent(t *testing.T) {
	r := newRig(t, true)
	r.runtime.OnExec = func(*moss.Exec, moss.ChildStdio) (*fake.Process, error) { return fake.NewProcess(4711), nil }
	id := r.run()
	x, err := r.Execs().Create(t.Context(), string(id), moss.ExecConfig{Cmd: []string{"cat"}, AttachStdin: true})
	r.must(err)
	in, typed := io.Pipe()
	done, attached := make(chan error, 1), make(chan struct{})
	go func() {
		done <- r.Execs().Start(t.Context(), string(x), false, moss.TermSize{}, moss.AttachIO{Stdin: in, Stdout: new(output), DetachKeys: []byte{16, 17}}, func() { close(attached) })
	}()
	<-attached
	_, _ = typed.Write([]byte{16, 17})
	r.must(within(t, "the client", done))
	all := r.events.Of(string(id))
	if e := all[len(all)-1]; e.Action != "exec_detach" || e.Attributes["execID"] != string(x) {
		t.Errorf("%+v", e)
	}
	if got, err := r.Execs().Get(string(x)); err != nil || !got.Running {
		t.Errorf("%+v, %v", got, err)
	}
	r.must(r.remove(id, true))
}
