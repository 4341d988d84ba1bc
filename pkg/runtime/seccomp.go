package runtime

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

// defaultProfiles caches docker's profile by the capabilities it depends on:
// making it costs more than the rest of the specification. The profiles are
// shared and never written to.
var defaultProfiles sync.Map // capabilities, joined → *specs.LinuxSeccomp

// seccompProfile is the filter for a process with the bounding set caps: the
// default, none, or the user's own.
func seccompProfile(profile string, privileged bool, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	switch {
	case profile == "unconfined", profile == "" && privileged:
		return nil, nil
	case profile != "" && profile != "default" && profile != "builtin":
		p, err := seccomp.LoadProfile(profile, spec)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "invalid seccomp profile: %w", err)
		}
		if err := knownWords(p); err != nil {
			return nil, moss.Errorf(moss.Invalid, "invalid seccomp profile: %w", err)
		}
		if p != nil { // else it says nothing, as {} does
			admitSuccessors(p)
		}
		return p, nil
	}
	key := strings.Join(spec.Process.Capabilities.Bounding, ",")
	if p, ok := defaultProfiles.Load(key); ok {
		return p.(*specs.LinuxSeccomp), nil
	}
	p, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, moss.Wrap(err, "make the seccomp profile", "")
	}
	defaultProfiles.Store(key, p)
	return p, nil
}

// knownWords refuses the actions and operators that no runtime has, while it is
// still the profile that can be named.
func knownWords(p *specs.LinuxSeccomp) error {
	if p == nil {
		return nil
	}
	if !slices.Contains(seccompActions, p.DefaultAction) {
		return fmt.Errorf("unknown defaultAction %q", p.DefaultAction)
	}
	for _, rule := range p.Syscalls {
		if !slices.Contains(seccompActions, rule.Action) {
			return fmt.Errorf("unknown action %q for %s", rule.Action, strings.Join(rule.Names, ", "))
		}
		for _, arg := range rule.Args {
			if !slices.Contains(seccompOperators, arg.Op) {
				return fmt.Errorf("unknown operator %q for %s", arg.Op, strings.Join(rule.Names, ", "))
			}
		}
	}
	return nil
}

var (
	seccompActions = []specs.LinuxSeccompAction{
		specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno,
		specs.ActTrace, specs.ActAllow, specs.ActLog, specs.ActNotify,
	}
	seccompOperators = []specs.LinuxSeccompOperator{
		specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual,
	}
)
