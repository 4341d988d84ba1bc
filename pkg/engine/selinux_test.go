package engine_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/moss"
)

func labelled(options ...string) option {
	return func(q *moss.CreateRequest) { q.Host.LabelOpts = options }
}

func TestSELinux(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		if id := r.create(labelled("type:a_t")); r.get(id).SELinux != (moss.SELinux{}) {
			t.Error("there are labels where the kernel has none")
		}
		labels := fake.NewLabels()
		r.labels = labels
		r.crash()
		r.boot(false)
		level := func(id moss.ContainerID) string { return strings.SplitN(r.get(id).SELinux.Mount, ":", 4)[3] }

		if id := r.create(); r.get(id).SELinux != (moss.SELinux{}) {
			t.Error("it has labels that nobody has asked for")
		}
		dir := t.TempDir()
		id := r.run(labelled("type:a_t"), func(q *moss.CreateRequest) {
			q.Host.IpcMode = "shareable"
			q.Host.Mounts = []moss.MountPoint{
				{Type: moss.MountBind, Source: dir + "/one", CreateSource: true, Target: "/a", Relabel: "Z"},
				{Type: moss.MountBind, Source: dir + "/all", CreateSource: true, Target: "/b", Relabel: "z"},
				{Type: moss.MountBind, Source: dir + "/left", CreateSource: true, Target: "/c"},
			}
		})
		c := r.get(id)
		if c.SELinux.Process != "u:r:a_t:"+level(id) || c.SELinux.Mount != "u:object_r:container_file_t:"+level(id) {
			t.Errorf("labels %+v", c.SELinux)
		}
		if got := r.rootfs.Label(id); got != c.SELinux.Mount {
			t.Errorf("the root file system is mounted with %q", got)
		}
		for _, want := range []string{c.Dir + "/hosts " + c.SELinux.Mount, dir + "/one " + c.SELinux.Mount, dir + "/all " + c.SELinux.Mount + " shared"} {
			if !slices.Contains(labels.Done, want) {
				t.Errorf("%q is missing in %q", want, labels.Done)
			}
		}
		if slices.ContainsFunc(labels.Done, func(s string) bool { return strings.HasPrefix(s, dir+"/left") }) {
			t.Error("a bind was labelled that nobody wanted labelled")
		}

		// From now on everything has labels, as the setting says, also after the daemon.
		r.selinux = true
		r.crash()
		r.boot(false)
		other := r.create()
		if level(other) == level(id) {
			t.Errorf("two containers have the level %s", level(id))
		}
		shares := r.create(func(q *moss.CreateRequest) { q.Host.IpcMode = "container:" + string(id) })
		if level(shares) != level(id) {
			t.Errorf("it shares the IPC of one of %s, and has %s", level(id), level(shares))
		}
		for _, free := range []option{labelled(moss.LabelDisable), func(q *moss.CreateRequest) { q.Host.Privileged = true }, func(q *moss.CreateRequest) { q.Host.PidMode = "host" }} {
			if l := r.get(r.create(free)).SELinux; l.Process != "" || l.Mount == "" {
				t.Errorf("not confined, it has %+v", l)
			}
		}
		if _, err := r.tryCreate(labelled("nonsense:x")); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("a wrong option: %v", err)
		}
		r.must(r.remove(other, true))
		if next := r.create(); level(next) == level(id) {
			t.Errorf("a new one has the level of one that runs")
		}
		r.check()
	})
}
