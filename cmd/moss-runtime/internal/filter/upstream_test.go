package filter

import (
	"errors"
	"os"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	upstream "moss.invalid/libseccomp-golang"
)

// fresh compiles profile with nothing of ours in between: straight through the
// real libseccomp-golang, rule by rule, by what the configuration means.
func fresh(t testing.TB, profile *configs.Seccomp) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	byDefault := action(t, profile.DefaultAction, profile.DefaultErrnoRet)
	f, err := upstream.NewFilter(byDefault)
	must(err)
	defer f.Release()
	for _, name := range profile.Architectures {
		arch, err := upstream.GetArchFromString(name)
		must(err)
		must(f.AddArch(arch))
	}
	if len(profile.Syscalls) > 32 {
		must(f.SetOptimize(2))
	}
	must(f.SetNoNewPrivsBit(false))
	for _, call := range profile.Syscalls {
		act := action(t, call.Action, call.ErrnoRet)
		number, err := upstream.GetSyscallFromName(call.Name)
		if errors.Is(err, upstream.ErrSyscallDoesNotExist) || act == byDefault {
			continue
		}
		must(err)
		var all []upstream.ScmpCondition
		seen, twice := map[uint]bool{}, false
		for _, a := range call.Args {
			c, err := upstream.MakeCondition(a.Index, operators[a.Op], a.Value, a.ValueTwo)
			must(err)
			twice = twice || seen[a.Index]
			seen[a.Index] = true
			all = append(all, c)
		}
		switch {
		case len(all) == 0:
			must(f.AddRule(number, act))
		case twice: // an argument named twice makes alternatives
			for _, c := range all {
				must(f.AddRuleConditional(number, act, []upstream.ScmpCondition{c}))
			}
		default:
			must(f.AddRuleConditional(number, act, all))
		}
	}
	return export(t, f)
}

func export(t testing.TB, f *upstream.ScmpFilter) []byte {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func action(t testing.TB, a configs.Action, code *uint) upstream.ScmpAction {
	t.Helper()
	act, ok := map[configs.Action]upstream.ScmpAction{
		configs.Kill: upstream.ActKillThread, configs.KillThread: upstream.ActKillThread,
		configs.KillProcess: upstream.ActKillProcess, configs.Errno: upstream.ActErrno, configs.Trap: upstream.ActTrap,
		configs.Allow: upstream.ActAllow, configs.Trace: upstream.ActTrace, configs.Log: upstream.ActLog,
	}[a]
	if !ok {
		t.Fatalf("action %v", a)
	}
	errno := int16(1) // EPERM
	if code != nil {
		errno = int16(*code)
	}
	return act.SetReturnCode(errno)
}

var operators = map[configs.Operator]upstream.ScmpCompareOp{
	configs.EqualTo: upstream.CompareEqual, configs.NotEqualTo: upstream.CompareNotEqual,
	configs.GreaterThan: upstream.CompareGreater, configs.GreaterThanOrEqualTo: upstream.CompareGreaterEqual,
	configs.LessThan: upstream.CompareLess, configs.LessThanOrEqualTo: upstream.CompareLessOrEqual,
	configs.MaskEqualTo: upstream.CompareMaskedEqual,
}
