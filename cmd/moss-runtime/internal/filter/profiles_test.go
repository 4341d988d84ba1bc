package filter

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// dockerProfile is docker's default for a process with caps, as libcontainer
// has it: for three architectures.
func dockerProfile(t testing.TB, caps ...string) *configs.Seccomp {
	t.Helper()
	return converted(t, dockerSpec(t, caps...))
}

func dockerSpec(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := profiles.GetDefaultProfile(&specs.Spec{
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func converted(t testing.TB, p *specs.LinuxSeccomp) *configs.Seccomp {
	t.Helper()
	c, err := specconv.SetupSeccomp(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// randomSpec is a profile libseccomp takes: no action is the default's, none of
// two rules for one call contradict each other in full.
func randomSpec(r *rand.Rand, names []string) *specs.LinuxSeccomp {
	actions := []specs.LinuxSeccompAction{
		specs.ActAllow, specs.ActErrno, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActTrace, specs.ActLog,
	}
	ops := []specs.LinuxSeccompOperator{
		specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterThan, specs.OpGreaterEqual,
		specs.OpLessThan, specs.OpLessEqual, specs.OpMaskedEqual,
	}
	r.Shuffle(len(actions), func(i, j int) { actions[i], actions[j] = actions[j], actions[i] })
	p := &specs.LinuxSeccomp{DefaultAction: actions[0]}
	for _, a := range []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchAARCH64} {
		if r.IntN(2) == 0 {
			p.Architectures = append(p.Architectures, a)
		}
	}
	if r.IntN(3) == 0 {
		p.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}
	}
	names = slices.Clone(names)
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:1+r.IntN(80)] {
		call := specs.LinuxSyscall{Names: []string{name}, Action: actions[1+r.IntN(len(actions)-1)]}
		if r.IntN(2) == 0 && (call.Action == specs.ActErrno || call.Action == specs.ActTrace) {
			code := uint(1 + r.IntN(100))
			call.ErrnoRet = &code
		}
		for _, i := range r.Perm(6)[:max(0, r.IntN(6)-2)] {
			call.Args = append(call.Args, specs.LinuxSeccompArg{
				Index: uint(i), Op: ops[r.IntN(len(ops))],
				Value: r.Uint64() >> r.IntN(64), ValueTwo: r.Uint64() >> r.IntN(64),
			})
		}
		p.Syscalls = append(p.Syscalls, call)
	}
	return p
}

// allSpecs are the profiles programs are compared for.
func allSpecs(t testing.TB) map[string]*specs.LinuxSeccomp {
	t.Helper()
	all := map[string]*specs.LinuxSeccomp{
		"docker":          dockerSpec(t),
		"docker, admin":   dockerSpec(t, "CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE"),
		"docker, time":    dockerSpec(t, "CAP_SYS_TIME"),
		"docker, one":     dockerSpec(t),
		"docker, no arch": dockerSpec(t),
		"no rules":        {DefaultAction: specs.ActLog},
	}
	all["docker, one"].Architectures = all["docker, one"].Architectures[:1]
	all["docker, no arch"].Architectures = nil
	var names []string
	for _, call := range all["docker"].Syscalls {
		for _, name := range call.Names {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for i := range 50 {
		r := rand.New(rand.NewPCG(uint64(i), 7))
		all[fmt.Sprintf("random %d", i)] = randomSpec(r, names)
	}
	return all
}

// allProfiles are allSpecs as libcontainer has them.
func allProfiles(t testing.TB) map[string]*configs.Seccomp {
	t.Helper()
	all := map[string]*configs.Seccomp{}
	for name, p := range allSpecs(t) {
		all[name] = converted(t, p)
	}
	return all
}
