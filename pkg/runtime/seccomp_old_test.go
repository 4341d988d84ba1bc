package runtime

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestOldSeccompProfiles(t *testing.T) {
	rule := func(action specs.LinuxSeccompAction, names ...string) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: action}
	}
	what := func(p *specs.LinuxSeccomp, name string) (actions []specs.LinuxSeccompAction) {
		for _, r := range p.Syscalls {
			if slices.Contains(r.Names, name) {
				actions = append(actions, r.Action)
			}
		}
		return actions
	}
	for name, c := range map[string]struct {
		def   specs.LinuxSeccompAction
		rules []specs.LinuxSyscall
		want  map[string]specs.LinuxSeccompAction // "" for not named
	}{
		"old list": {
			specs.ActErrno,
			[]specs.LinuxSyscall{rule(specs.ActAllow, "openat", "stat", "close", "clone")},
			map[string]specs.LinuxSeccompAction{"statx": specs.ActAllow, "openat2": specs.ActAllow, "close_range": specs.ActAllow, "faccessat2": "", "clone3": specs.ActErrno},
		},
		"killer": {
			specs.ActKillProcess,
			[]specs.LinuxSyscall{rule(specs.ActAllow, "newfstatat")},
			map[string]specs.LinuxSeccompAction{"statx": specs.ActAllow, "openat2": "", "clone3": specs.ActErrno},
		},
		"said otherwise": {
			specs.ActErrno,
			[]specs.LinuxSyscall{rule(specs.ActAllow, "openat", "stat", "clone3"), rule(specs.ActErrno, "statx", "openat2")},
			map[string]specs.LinuxSeccompAction{"statx": specs.ActErrno, "openat2": specs.ActErrno, "clone3": specs.ActAllow},
		},
		"on a condition": {
			specs.ActErrno,
			[]specs.LinuxSyscall{{Names: []string{"openat"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Index: 2}}}},
			map[string]specs.LinuxSeccompAction{"openat2": "", "statx": ""},
		},
		"a list of what is forbidden": {
			specs.ActAllow,
			[]specs.LinuxSyscall{rule(specs.ActErrno, "mount")},
			map[string]specs.LinuxSeccompAction{"clone3": "", "statx": ""},
		},
	} {
		p := &specs.LinuxSeccomp{DefaultAction: c.def, Syscalls: c.rules}
		admitSuccessors(p)
		for call, want := range c.want {
			got := what(p, call)
			if len(got) > 1 || len(got) == 1 && got[0] != want || len(got) == 0 && want != "" {
				t.Errorf("%s: %s is %q, want %q", name, call, got, want)
			}
		}
		for _, r := range p.Syscalls {
			if slices.Contains(r.Names, "clone3") && r.Action == specs.ActErrno && (r.ErrnoRet == nil || *r.ErrnoRet != uint(unix.ENOSYS)) {
				t.Errorf("%s: clone3 ends with %v, want ENOSYS", name, r.ErrnoRet)
			}
		}
	}
}
