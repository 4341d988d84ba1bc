package filter

import (
	"slices"
	"strings"
	"testing"

	libseccomp "github.com/seccomp/libseccomp-golang"
	upstream "moss.invalid/libseccomp-golang"
)

// Everything that is told a filter makes a difference to its key, and nothing
// else does.
func TestKey(t *testing.T) {
	type filter = *libseccomp.ScmpFilter
	errno := libseccomp.ActErrno.SetReturnCode(1)
	cond := func(arg uint, op libseccomp.ScmpCompareOp, values ...uint64) libseccomp.ScmpCondition {
		c, err := libseccomp.MakeCondition(arg, op, values...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rule := func(call libseccomp.ScmpSyscall, act libseccomp.ScmpAction, conds ...libseccomp.ScmpCondition) func(filter) error {
		return func(f filter) error { return f.AddRuleConditional(call, act, conds) }
	}
	arch := func(a libseccomp.ScmpArch) func(filter) error { return func(f filter) error { return f.AddArch(a) } }
	make := func(by libseccomp.ScmpAction, steps ...func(filter) error) libseccomp.Key {
		f, err := libseccomp.NewFilter(by)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range steps {
			if err := step(f); err != nil {
				t.Fatal(err)
			}
		}
		key, err := f.Key()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	allow, equal := libseccomp.ActAllow, libseccomp.CompareEqual
	seen := map[libseccomp.Key]string{}
	for _, c := range []struct {
		name string
		key  libseccomp.Key
	}{
		{"empty", make(errno)},
		{"default action", make(allow)},
		{"default errno", make(errno.SetReturnCode(2))},
		{"x86", make(errno, arch(libseccomp.ArchX86))},
		{"x32", make(errno, arch(libseccomp.ArchX32))},
		{"x86, x32", make(errno, arch(libseccomp.ArchX86), arch(libseccomp.ArchX32))},
		{"x32, x86", make(errno, arch(libseccomp.ArchX32), arch(libseccomp.ArchX86))},
		{"no_new_privs", make(errno, func(f filter) error { return f.SetNoNewPrivsBit(true) })},
		{"no no_new_privs", make(errno, func(f filter) error { return f.SetNoNewPrivsBit(false) })},
		{"log", make(errno, func(f filter) error { return f.SetLogBit(true) })},
		{"ssb", make(errno, func(f filter) error { return f.SetSSB(true) })},
		{"no ssb", make(errno, func(f filter) error { return f.SetSSB(false) })},
		{"optimize 2", make(errno, func(f filter) error { return f.SetOptimize(2) })},
		{"optimize 1", make(errno, func(f filter) error { return f.SetOptimize(1) })},
		{"rule", make(errno, rule(1, allow))},
		{"call", make(errno, rule(2, allow))},
		{"negative call", make(errno, rule(-1, allow))},
		{"action", make(errno, rule(1, libseccomp.ActLog))},
		{"errno", make(errno, rule(1, errno.SetReturnCode(5)))},
		{"other errno", make(errno, rule(1, errno.SetReturnCode(6)))},
		{"twice", make(errno, rule(1, allow), rule(1, allow))},
		{"order 1 2", make(errno, rule(1, allow), rule(2, allow))},
		{"order 2 1", make(errno, rule(2, allow), rule(1, allow))},
		{"condition", make(errno, rule(1, allow, cond(0, equal, 1)))},
		{"argument", make(errno, rule(1, allow, cond(1, equal, 1)))},
		{"operator", make(errno, rule(1, allow, cond(0, libseccomp.CompareLess, 1)))},
		{"value", make(errno, rule(1, allow, cond(0, equal, 2)))},
		{"high value", make(errno, rule(1, allow, cond(0, equal, 1<<63)))},
		{"masked", make(errno, rule(1, allow, cond(0, libseccomp.CompareMaskedEqual, 1, 2)))},
		{"other mask", make(errno, rule(1, allow, cond(0, libseccomp.CompareMaskedEqual, 1, 3)))},
		{"two conditions", make(errno, rule(1, allow, cond(0, equal, 1), cond(1, equal, 1)))},
		{"two conditions turned", make(errno, rule(1, allow, cond(1, equal, 1), cond(0, equal, 1)))},
		{"two rules", make(errno, rule(1, allow, cond(0, equal, 1)), rule(1, allow, cond(1, equal, 1)))},
	} {
		if other, ok := seen[c.key]; ok {
			t.Errorf("%q has the key of %q", c.name, other)
		}
		seen[c.key] = c.name
	}
	again := make(errno, rule(1, allow, cond(0, equal, 1)), rule(1, allow, cond(1, equal, 1)))
	if seen[again] != "two rules" {
		t.Error("the same filter has another key")
	}
}

// The API level, which depends on the kernel, is part of the key.
func TestKeyOfOtherAPI(t *testing.T) {
	level, err := upstream.GetAPI()
	if err != nil || level < 2 {
		t.Skipf("API level %d, %v", level, err)
	}
	f, err := libseccomp.NewFilter(libseccomp.ActAllow)
	if err != nil {
		t.Fatal(err)
	}
	before, err := f.Key()
	if err != nil {
		t.Fatal(err)
	}
	if err := upstream.SetAPI(level - 1); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := upstream.SetAPI(level); err != nil {
			t.Error(err)
		}
	}()
	if after, err := f.Key(); err != nil || after == before {
		t.Errorf("the key is the same at another API level (%v)", err)
	}
}

// Rules wait, but nothing overtakes them, and what libseccomp has against one
// is said.
func TestDeferredRules(t *testing.T) {
	f, err := libseccomp.NewFilter(libseccomp.ActAllow)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AddRule(1, libseccomp.ActAllow); err != nil { // the default: refused
		t.Fatal(err)
	}
	_, err = f.Compile()
	if err == nil || !strings.Contains(err.Error(), "system call 1") {
		t.Errorf("error %v", err)
	}
	if err := f.SetSSB(true); err == nil {
		t.Error("a broken filter goes on")
	}

	f, err = libseccomp.NewFilter(libseccomp.ActAllow)
	if err != nil {
		t.Fatal(err)
	}
	u, err := upstream.NewFilter(upstream.ActAllow)
	if err != nil {
		t.Fatal(err)
	}
	conds := []libseccomp.ScmpCondition{{Argument: 0, Op: libseccomp.CompareEqual, Operand1: 7}}
	// A rule, an architecture it does not reach, and another rule.
	for _, step := range []func() error{
		func() error { return f.AddRuleConditional(1, libseccomp.ActTrap, conds) },
		func() error { conds[0].Operand1 = 8; return f.AddArch(libseccomp.ArchX86) }, // the rule has a copy
		func() error { return f.AddRule(2, libseccomp.ActLog) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	conds[0].Operand1 = 7
	for _, step := range []func() error{
		func() error { return u.AddRuleConditional(1, upstream.ActTrap, conds) },
		func() error { return u.AddArch(upstream.ArchX86) },
		func() error { return u.AddRule(2, upstream.ActLog) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := f.Compile()
	if err != nil {
		t.Fatal(err)
	}
	if want := export(t, u); !slices.Equal(got, want) {
		t.Errorf("the program has %d bytes, libseccomp's %d", len(got), len(want))
	}
	if again, err := f.Compile(); err != nil || !slices.Equal(again, got) {
		t.Errorf("compiled again it differs (%v)", err)
	}
}

// libcontainer asks the zero filter what there is.
func TestZeroFilter(t *testing.T) {
	var f libseccomp.ScmpFilter
	if err := f.SetSSB(true); err == nil {
		t.Error("set")
	}
	if err := f.AddRule(1, libseccomp.ActAllow); err == nil {
		t.Error("added")
	}
	if _, err := f.Compile(); err == nil {
		t.Error("compiled")
	}
	if _, err := f.GetLogBit(); err == nil {
		t.Error("got")
	}
}
