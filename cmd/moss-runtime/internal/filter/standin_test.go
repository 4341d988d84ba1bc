package filter

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"github.com/sirupsen/logrus"
)

// tellTale keeps what libcontainer says it puts before the program, and with
// which flags it loads both.
type tellTale struct{ lines []string }

func (*tellTale) Levels() []logrus.Level { return logrus.AllLevels }

func (t *tellTale) Fire(e *logrus.Entry) error {
	if strings.HasPrefix(e.Message, "  [") || strings.Contains(e.Message, "flags") {
		t.lines = append(t.lines, e.Message)
	}
	return nil
}

// initOf lets libcontainer do all that an init does with profile. Its source has
// a program that no kernel takes: nothing is loaded here.
func initOf(t *testing.T, profile *configs.Seccomp) (key libseccomp.Key, said []string) {
	t.Helper()
	log := logrus.StandardLogger()
	level, out, hooks := log.Level, log.Out, log.ReplaceHooks(logrus.LevelHooks{})
	defer func() {
		log.SetLevel(level)
		log.SetOutput(out)
		log.ReplaceHooks(hooks)
	}()
	tale := &tellTale{}
	log.SetLevel(logrus.DebugLevel)
	log.SetOutput(io.Discard)
	log.AddHook(tale)
	libseccomp.SetSource(func(f *libseccomp.ScmpFilter) (program []byte, err error) {
		key, err = f.Key()
		return []byte{0x20, 0, 0, 0, 0, 0, 0, 0}, err // a load, and no end
	})
	defer libseccomp.SetSource(nil)
	if _, err := seccomp.InitSeccomp(profile); err == nil || !strings.Contains(err.Error(), "loading seccomp filter into kernel") {
		t.Fatalf("not as far as the kernel: %v", err)
	}
	return key, tale.lines
}

// sameStub runs two stubs, as they were told, for each call that makes a
// difference to either: libcontainer writes the parts of one in any order. It
// says whether there is a stub.
func sameStub(t *testing.T, name string, a, b []string) (any bool) {
	t.Helper()
	numbers := []uint32{0}
	for _, line := range slices.Concat(a, b) {
		if _, k, ok := strings.Cut(line, "#"); ok {
			k, _, _ = strings.Cut(k, ",")
			n, err := strconv.ParseUint(k, 10, 32)
			if err != nil {
				t.Fatalf("%s: %q: %v", name, line, err)
			}
			numbers = append(numbers, uint32(n)-1, uint32(n), uint32(n)+1)
		}
	}
	for _, arch := range numbers { // and many that are none
		for _, call := range numbers {
			x, y := runStub(t, a, arch, call), runStub(t, b, arch, call)
			if x != y {
				t.Errorf("%s: arch %d, call %d: %s, with the profile %s", name, arch, call, x, y)
			}
			any = any || x != "goes on"
		}
	}
	return any
}

// runStub interprets what golang.org/x/net/bpf's instructions call themselves.
func runStub(t *testing.T, stub []string, arch, call uint32) string {
	t.Helper()
	var acc uint32
	for pc := 0; pc < len(stub); pc++ {
		_, text, _ := strings.Cut(stub[pc], "] ")
		op, rest, _ := strings.Cut(text, " ")
		var args []uint32
		for f := range strings.SplitSeq(strings.Trim(rest, "#[]"), ",") {
			n, _ := strconv.ParseUint(f, 10, 32) // the end of the stub has none
			args = append(args, uint32(n))
		}
		jump := func(holds bool) {
			args = append(args, 0)
			pc += int(args[map[bool]int{true: 1, false: 2}[holds]])
		}
		switch op {
		case "ld":
			acc = map[uint32]uint32{0: call, 4: arch}[args[0]]
		case "ja":
			pc += int(args[0])
		case "jeq":
			jump(acc == args[0])
		case "jneq":
			jump(acc != args[0])
		case "jgt":
			jump(acc > args[0])
		case "jle":
			jump(acc <= args[0])
		case "jset":
			jump(acc&args[0] != 0)
		case "ret":
			return "ends with " + rest
		case "---":
			return "goes on"
		default:
			t.Fatalf("cannot interpret %q", stub[pc])
		}
	}
	return "goes nowhere"
}

// first is what the first process of a container with profile is given.
func (c Cache) first(profile *configs.Seccomp, dir string) (*Entry, error) {
	return (&Profile{Config: profile, cache: c}).program(dir)
}

// With a stand-in, libcontainer loads what it loads with the profile: the same
// program, which is libseccomp's (TestProgramIsLibseccomps), after the same
// stub, with the same flags.
func TestStandInLoadsTheSame(t *testing.T) {
	c, stubs := newCache(t), 0
	for name, profile := range allProfiles(t) {
		dir := t.TempDir()
		key, want := initOf(t, profile)
		stand := *profile
		e, err := c.first(&stand, dir)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(stand.Syscalls) > 1+4 {
			t.Errorf("%s: %d rules are left", name, len(stand.Syscalls))
		}
		itsKey, got := initOf(t, &stand)
		if itsKey != key || e.Key != key {
			t.Errorf("%s: keys: profile's %x, stand-in's %x, program's %x", name, key, itsKey, e.Key)
		}
		if got[len(got)-1] != want[len(want)-1] {
			t.Errorf("%s: %s, with the profile %s", name, got[len(got)-1], want[len(want)-1])
		}
		if sameStub(t, name, got, want) {
			stubs++
		}
		later, err := c.later(&stand, dir)
		if err != nil || later.Key != key || !bytes.Equal(later.Program, e.Program) {
			t.Errorf("%s: later ones have another program (%v)", name, err)
		}
	}
	if stubs < 30 {
		t.Errorf("only %d profiles with a stub", stubs)
	}
}

// A stand-in without its program is nothing that could be loaded.
func TestStandInFailsClosed(t *testing.T) {
	for name, profile := range allProfiles(t) {
		stand := *profile
		if _, err := (Cache{}).first(&stand, t.TempDir()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := seccomp.InitSeccomp(&stand); err == nil || !strings.Contains(err.Error(), "is not there") {
			t.Fatalf("%s: not refused: %v", name, err)
		}
	}
	for _, bad := range []string{"moss:program:", "moss:program:00", "moss:program:" + strings.Repeat("zz", 32)} {
		p := &configs.Seccomp{DefaultAction: configs.Allow, Syscalls: []*configs.Syscall{{Name: bad, Action: configs.Errno}}}
		if _, err := (Cache{}).first(p, t.TempDir()); err == nil {
			t.Errorf("%q has a program", bad)
		}
		if _, err := seccomp.InitSeccomp(p); err == nil {
			t.Fatalf("%q is not refused", bad)
		}
	}
}

func TestKeptProgram(t *testing.T) {
	dir, stand := t.TempDir(), dockerProfile(t)
	e, err := (Cache{}).first(stand, dir)
	if err != nil {
		t.Fatal(err)
	}
	other := (Cache{}).mustEntry(t, dockerProfile(t, "CAP_SYS_ADMIN"))
	good, file := e.encode(), filepath.Join(dir, programFile)
	damaged := slices.Clone(good)
	damaged[len(damaged)-1] ^= 1
	for name, data := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-instruction], "damaged": damaged, "another filter's": other.encode(),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (Cache{}).later(stand, dir); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := (Cache{}).later(stand, dir); err == nil {
		t.Error("missing: nothing is said")
	}
}

// Nothing stands in for a profile that does more than its program says, or
// whose program cannot be left.
func TestNoStandIn(t *testing.T) {
	asks := dockerProfile(t)
	asks.ListenerPath = "/run/agent"
	notifies := converted(t, &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"mount"}, Action: specs.ActNotify},
	}})
	nowhere := filepath.Join(t.TempDir(), "nothing")
	for name, c := range map[string]struct {
		profile *configs.Seccomp
		dir     string
	}{"listener": {asks, t.TempDir()}, "notifies": {notifies, t.TempDir()}, "no directory": {dockerProfile(t), nowhere}} {
		want := *c.profile
		if _, err := (Cache{}).first(c.profile, c.dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := standsFor(c.profile); ok || len(c.profile.Syscalls) != len(want.Syscalls) {
			t.Errorf("%s: it has a stand-in", name)
		}
	}
}
