package runtime

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

func TestKeptGroups(t *testing.T) {
	keep := moss.HostConfig{GroupAdd: []string{moss.KeepGroups}, Runtime: "other"}
	for program, want := range map[string]moss.Class{
		"/usr/bin/crun": 0, "/opt/crun-1.2": 0, "/usr/lib/moss-runtime": 0, "/usr/sbin/runc": moss.NotImplemented, "/x/youki": moss.NotImplemented,
	} {
		if err := checkGroups(keep, program); (err == nil) != (want == 0) || err != nil && moss.ClassOf(err) != want {
			t.Errorf("%s: %v", program, err)
		}
	}
	if err := checkGroups(moss.HostConfig{GroupAdd: []string{"7"}}, "/usr/sbin/runc"); err != nil {
		t.Error(err)
	}
	a := Accounts{Passwd: []byte("me:x:5:5::/:/bin/sh\n"), Group: []byte("more:x:9:me\n")}
	c := &moss.Container{Host: keep}
	p, err := ExecProcess(c, &specs.Process{Capabilities: &specs.LinuxCapabilities{}}, moss.ExecConfig{Cmd: []string{"x"}, User: "me"}, a, Environment{IDs: 100})
	if err != nil || p.User.UID != 5 || p.User.AdditionalGids != nil {
		t.Errorf("an exec is %+v, %v", p.User, err)
	}
}
