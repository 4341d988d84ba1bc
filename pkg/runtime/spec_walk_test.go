package runtime

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

// Whatever a container asks for: its specification depends on nothing else, leaves
// what it was made of alone, and keeps the promises that hold for all of them.
func TestSpecWalk(t *testing.T) {
	pick := func(rnd *rand.Rand, of ...string) string { return of[rnd.IntN(len(of))] }
	made := 0
	for seed := range uint64(1500) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		yes := func() bool { return rnd.IntN(2) == 0 }
		b := testBundle()
		h, c := &b.Container.Host, &b.Container.Config
		h.Privileged, h.ReadonlyRootfs, h.NoNewPrivileges = yes(), yes(), yes()
		h.CapAdd = []string{pick(rnd, "NET_ADMIN", "CAP_SYS_ADMIN", "ALL", "chown")}
		h.CapDrop = []string{pick(rnd, "ALL", "MKNOD", "KILL")}
		h.Seccomp = pick(rnd, "", "unconfined", `{"defaultAction":"SCMP_ACT_ERRNO"}`)
		h.PidMode, h.IpcMode, h.UTSMode, h.CgroupNS = pick(rnd, "", "host"), pick(rnd, "private", "host", "none", "shareable"), pick(rnd, "", "host"), pick(rnd, "private", "host")
		h.GroupAdd = [][]string{nil, {"audio", "44"}, {moss.KeepGroups}}[rnd.IntN(3)]
		h.Annotations = map[string]string{"a": "b"}
		h.Sysctls = map[string]string{pick(rnd, "net.core.somaxconn", "kernel.shmmax"): "1"}
		h.MaskedPaths = [][]string{nil, {}, {"/proc/x"}}[rnd.IntN(3)]
		c.User, c.TTY = pick(rnd, "", "web", "5:6", "web:audio"), yes()
		c.Env = []string{"A=1", "HOME=/h", "B"}[:rnd.IntN(4)]
		b.Container.Mounts = []moss.MountPoint{
			{Type: moss.MountBind, Source: "/s", Target: "/deep/er", ReadOnly: yes()}, {Type: moss.MountTmpfs, Target: "/deep"},
		}[:rnd.IntN(3)]
		before, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := Spec(b, testAccounts, testEnv)
		if err != nil {
			if c := moss.ClassOf(err); c != moss.Invalid && c != moss.NotImplemented {
				t.Errorf("seed %d: %v is %v", seed, err, c)
			}
			continue
		}
		made++
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Spec(b, testAccounts, testEnv); err != nil {
			t.Errorf("seed %d: made once, then %v", seed, err)
		} else if other, _ := json.Marshal(again); string(other) != string(text) {
			t.Errorf("seed %d: two specifications of one bundle:\n%s\n%s", seed, text, other)
		}
		if after, _ := json.Marshal(b); string(after) != string(before) {
			t.Errorf("seed %d: the bundle was changed:\n%s\n%s", seed, before, after)
		}
		promises(t, seed, b.Container.Host, spec)
	}
	if made < 500 {
		t.Errorf("only %d of the bundles gave a specification", made)
	}
}

func promises(t *testing.T, seed uint64, h moss.HostConfig, spec *specs.Spec) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("seed %d: "+format, append([]any{seed}, args...)...)
	}
	p := spec.Process
	for _, set := range [][]string{p.Capabilities.Effective, p.Capabilities.Permitted} {
		for _, capability := range set {
			if !slices.Contains(p.Capabilities.Bounding, capability) {
				fail("%s is had and not in the bounding set", capability)
			}
		}
	}
	for _, capability := range p.Capabilities.Bounding {
		if !slices.Contains(testEnv.Capabilities, capability) {
			fail("%s, which nobody has", capability)
		}
	}
	if p.User.UID != 0 && len(p.Capabilities.Effective) > 0 {
		fail("user %d begins with capabilities", p.User.UID)
	}
	if h.KeepsGroups() != (spec.Annotations[keepGroups] == "1") || h.KeepsGroups() && p.User.AdditionalGids != nil {
		fail("groups %v, annotations %v", p.User.AdditionalGids, spec.Annotations)
	}
	if (spec.Linux.Seccomp == nil) != (h.Seccomp == "unconfined" || h.Seccomp == "" && h.Privileged) {
		fail("seccomp %v for %q, privileged %v", spec.Linux.Seccomp != nil, h.Seccomp, h.Privileged)
	}
	names := map[string]bool{}
	for _, e := range p.Env {
		name, _, ok := strings.Cut(e, "=")
		if !ok || names[name] {
			fail("environment %q", p.Env)
		}
		names[name] = true
	}
	if !names["PATH"] || !names["HOME"] || !names["HOSTNAME"] {
		fail("environment %q lacks what every process has", p.Env)
	}
	at := map[string]int{}
	for i, m := range spec.Mounts {
		at[m.Destination] = i
	}
	if deep, ok := at["/deep"]; ok && at["/deep/er"] != 0 && at["/deep/er"] < deep {
		fail("/deep is mounted over /deep/er")
	}
	if !spec.Root.Readonly && h.ReadonlyRootfs {
		fail("the root file system can be written to")
	}
}
