package engine

import (
	"reflect"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestDefaults(t *testing.T) {
	d := Defaults{
		ShmSize: 1 << 20, IpcMode: "shareable", CgroupNS: "host", CgroupParent: "mine.slice", NoNewPrivileges: true, Seccomp: "unconfined",
		Ulimits: []moss.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}, {Name: "core", Soft: 0, Hard: 0}},
	}
	var silent moss.HostConfig
	d.apply(&silent)
	if want := (moss.HostConfig{
		ShmSize: 1 << 20, IpcMode: "shareable", CgroupNS: "host", CgroupParent: "mine.slice", NoNewPrivileges: true, Seccomp: "unconfined", Ulimits: d.Ulimits,
	}); !reflect.DeepEqual(silent, want) {
		t.Errorf("%+v", silent)
	}
	own := moss.HostConfig{
		ShmSize: 5, IpcMode: "private", CgroupNS: "private", CgroupParent: "own.slice", SecurityOpt: []string{"no-new-privileges=false", "seccomp=builtin"},
		Ulimits: []moss.Ulimit{{Name: "nofile", Soft: 7, Hard: 8}},
	}
	want := own
	want.Ulimits = []moss.Ulimit{{Name: "nofile", Soft: 7, Hard: 8}, {Name: "core"}}
	d.apply(&own)
	if !reflect.DeepEqual(own, want) {
		t.Errorf("%+v", own)
	}
	privileged := moss.HostConfig{Privileged: true}
	if d.apply(&privileged); privileged.Seccomp != "" {
		t.Errorf("a privileged container has the profile %q", privileged.Seccomp)
	}
}
