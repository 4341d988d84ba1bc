package runtime

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// successors are system calls that do what older ones do, and that programs of
// today, the OCI runtime's first process among them, make in their place.
var successors = []struct {
	name string
	of   []string // any of them
}{
	{"statx", []string{"newfstatat", "fstatat64", "lstat", "stat", "fstat"}},
	{"openat2", []string{"openat"}},
	{"close_range", []string{"close"}},
	{"faccessat2", []string{"faccessat"}},
	{"epoll_pwait2", []string{"epoll_pwait"}},
}

// admitSuccessors completes a profile that forbids what it does not name and is
// older than calls of today: it cannot have meant them. Those whose
// predecessor it allows without a condition are allowed; clone3, whose flags no
// filter can see, does not exist, after which everybody falls back to clone.
// What the profile names stays as it is.
func admitSuccessors(p *specs.LinuxSeccomp) {
	switch p.DefaultAction {
	case specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap:
	default:
		return
	}
	named, allowed := map[string]bool{}, map[string]bool{}
	for _, rule := range p.Syscalls {
		for _, name := range rule.Names {
			named[name] = true
			if rule.Action == specs.ActAllow && len(rule.Args) == 0 {
				allowed[name] = true
			}
		}
	}
	var admit []string
	for _, s := range successors {
		if !named[s.name] && slices.ContainsFunc(s.of, func(old string) bool { return allowed[old] }) {
			admit = append(admit, s.name)
		}
	}
	if len(admit) > 0 {
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: admit, Action: specs.ActAllow})
	}
	if !named["clone3"] {
		missing := uint(unix.ENOSYS)
		p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &missing})
	}
}
