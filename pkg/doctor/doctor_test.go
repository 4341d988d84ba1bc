package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/pkg/units"
)

// well is a machine that lacks nothing.
func well() Facts {
	return Facts{
		User: "alice", UID: 1000, Prefix: "moss", Kernel: "6.1.0-28-amd64", UsernsClone: new(1), MaxUserNamespaces: new(63000),
		SubUIDs: 65536, SubGIDs: 65536, FreeSubID: 165536,
		Newuidmap: Helper{"/usr/bin/newuidmap", true}, Newgidmap: Helper{"/usr/bin/newgidmap", true},
		RuntimeDir: "/run/user/1000", Systemd: 257, CgroupV2: true, Controllers: []string{"cpuset", "cpu", "io", "memory", "pids"},
		Lingers: true, Slirp: "/usr/bin/slirp4netns", Gvisor: "/usr/bin/moss-gvisor", DataDir: "/home/alice/.local/share/moss", DataFS: "ext4", Overlay: true,
		UnitsInstalled: true, Socket: "/run/user/1000/moss/moss.sock", PingRange: "0\t2147483647", GIDs: []int{1000},
	}
}

func TestWell(t *testing.T) {
	for _, c := range Examine(well()) {
		if c.Verdict != OK || c.Mend != "" || c.Name == "" || c.Detail == "" {
			t.Errorf("%+v", c)
		}
	}
}

// moss system service stands in for the user manager, and what hangs on that is told so.
func TestService(t *testing.T) {
	f := well()
	f.Service, f.UnitsInstalled, f.SystemdError, f.ControllersError = true, false, errors.New("broken"), errors.New("broken")
	for _, c := range Examine(f) {
		if c.Verdict == Fail || strings.Contains(c.Detail+c.Mend, "systemctl") {
			t.Errorf("%+v", c)
		}
	}
	f.SocketError = errors.New("refused")
	if all := Examine(f); Worst(all) != Fail || strings.Contains(all[len(all)-1].Mend, "systemctl") {
		t.Errorf("the engine does not answer: %+v", all)
	}
}

// Without a way out nothing is said of what the outside would answer.
func TestNoWayOut(t *testing.T) {
	f := well()
	f.Driver, f.PingRange = "none", "1\t0"
	for _, c := range Examine(f) {
		if c.Name == "ping" && (c.Verdict != OK || !strings.Contains(c.Detail, "no way out")) {
			t.Errorf("%+v", c)
		}
	}
}

func TestIll(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name    string
		ail     func(*Facts)
		check   string
		verdict Verdict
		mend    string // a part of it
	}{
		{"old kernel", func(f *Facts) { f.Kernel = "5.10.0-33-amd64" }, "kernel", Fail, "upgrade"},
		{"strange kernel", func(f *Facts) { f.Kernel = "x" }, "kernel", Warn, "uname"},
		{"userns off", func(f *Facts) { f.UsernsClone = new(0) }, "user namespaces", Fail, "kernel.unprivileged_userns_clone=1"},
		{"no userns left", func(f *Facts) { f.MaxUserNamespaces = new(0) }, "user namespaces", Fail, "user.max_user_namespaces="},
		{"apparmor", func(f *Facts) { f.AppArmorRestricts = new(1) }, "user namespaces", Fail, "apparmor_restrict_unprivileged_userns=0"},
		{"userns fails", func(f *Facts) { f.UsernsError = broken }, "user namespaces", Fail, "sysctl"},
		{"no ids", func(f *Facts) { f.SubUIDs = 0 }, "subordinate ids", Fail, "--add-subuids 165536-231071 --add-subgids 165536-231071 alice"},
		{"no ids, nobody has", func(f *Facts) { f.SubGIDs, f.FreeSubID = 0, 0 }, "subordinate ids", Fail, "100000-165535"},
		{"few ids", func(f *Facts) { f.SubGIDs = 1000 }, "subordinate ids", Warn, "usermod"},
		{"ids unreadable", func(f *Facts) { f.SubIDError = broken }, "subordinate ids", Fail, "usermod"},
		{"no newuidmap", func(f *Facts) { f.Newuidmap = Helper{} }, "newuidmap", Fail, "install uidmap"},
		{"newgidmap not setuid", func(f *Facts) { f.Newgidmap.Privileged = false }, "newgidmap", Fail, "chmod u+s /usr/bin/newgidmap"},
		{"no run-time dir", func(f *Facts) { f.RuntimeDir = "" }, "run-time directory", Fail, "enable-linger alice"},
		{"another's run-time dir", func(f *Facts) { f.RuntimeDirError = broken }, "run-time directory", Fail, "enable-linger alice"},
		{"no manager", func(f *Facts) { f.SystemdError = broken }, "systemd --user", Fail, "dbus-user-session"},
		{"old manager", func(f *Facts) { f.Systemd = 240 }, "systemd --user", Fail, "upgrade"},
		{"cgroup v1", func(f *Facts) { f.CgroupV2 = false }, "resource limits", Warn, "unified_cgroup_hierarchy"},
		{"no cpu controller", func(f *Facts) { f.Controllers = []string{"memory", "pids"} }, "resource limits", Warn, "Delegate=cpu"},
		{"controllers unknown", func(f *Facts) { f.ControllersError = broken }, "resource limits", Warn, "systemctl"},
		{"no lingering", func(f *Facts) { f.Lingers = false }, "lingering", Warn, "enable-linger alice"},
		{"no network program", func(f *Facts) { f.Slirp = "" }, "network driver", Warn, "slirp4netns"},
		{"pasta only", func(f *Facts) { f.Slirp, f.Pasta = "", "/usr/bin/pasta" }, "network driver", Warn, "slirp4netns"},
		{"no driver at all", func(f *Facts) { f.Slirp, f.Gvisor = "", "" }, "network driver", Fail, "sudo apt install slirp4netns"},
		{"pasta only, and no driver of ours", func(f *Facts) { f.Slirp, f.Pasta, f.Gvisor = "", "/usr/bin/pasta", "" }, "network driver", Warn, "slirp4netns"},
		{"no tun", func(f *Facts) { f.TunError = broken }, "network driver", Fail, "/dev/net/tun"},
		{"moss's own driver runs", func(f *Facts) { f.Driver, f.Slirp = names.DriverGvisor, "" }, "network driver", Warn, "sudo apt install slirp4netns, and: systemctl"},
		{"moss's own driver beside a better", func(f *Facts) { f.Driver, f.Slirp = names.DriverGvisor, "/usr/bin/slirp4netns" }, "network driver", Warn, `"moss-network-driver": "auto"`},
		{"an old pasta runs", func(f *Facts) { f.Driver, f.DriverBetter = "pasta", "slirp4netns is better" }, "network driver", Warn, "auto"},
		{"no ping", func(f *Facts) { f.PingRange = "1\t0" }, "ping", Warn, "ping_group_range=0 2147483647"},
		{"strange ping range", func(f *Facts) { f.PingRange = "x" }, "ping", Warn, "sysctl"},
		{"nfs", func(f *Facts) { f.DataFS = "nfs" }, "storage", Fail, "data-root"},
		{"overlay on overlay", func(f *Facts) { f.DataFS = "overlay" }, "storage", Warn, "fuse-overlayfs"},
		{"no overlay", func(f *Facts) { f.Overlay = false }, "storage", Warn, "modprobe overlay"},
		{"not set up", func(f *Facts) { f.UnitsInstalled = false }, "engine", Warn, "moss setup"},
		{"does not answer", func(f *Facts) { f.SocketError = broken }, "engine", Fail, "restart moss.socket"},
	} {
		f := well()
		c.ail(&f)
		checks := Examine(f)
		if Worst(checks) != c.verdict {
			t.Errorf("%s: the worst is %s, want %s", c.name, Worst(checks), c.verdict)
		}
		for _, got := range checks {
			if got.Name != c.check {
				if got.Verdict != OK {
					t.Errorf("%s: also %+v", c.name, got)
				}
				continue
			}
			if got.Verdict != c.verdict || !strings.Contains(got.Mend, c.mend) || strings.Contains(got.Mend, "\n") {
				t.Errorf("%s: %+v, want %s with %q", c.name, got, c.verdict, c.mend)
			}
		}
	}
}

// Without moss-gvisor all is well as long as another driver is there, but it is said.
func TestNoGvisor(t *testing.T) {
	f := well()
	f.Gvisor = ""
	if c := network(f); c.Verdict != OK || !strings.Contains(c.Detail, "moss-gvisor is not installed") {
		t.Errorf("%+v", c)
	}
	f.Driver = "slirp4netns"
	if c := network(f); c.Verdict != OK || !strings.Contains(c.Detail, "moss-gvisor is not installed") {
		t.Errorf("beside a running one: %+v", c)
	}
	if c := network(well()); strings.Contains(c.Detail, "moss-gvisor") {
		t.Errorf("installed: %+v", c)
	}
}

func TestCountSubIDs(t *testing.T) {
	const text = "bob:100000:65536\nalice:165536:1000\n# alice:1:1\nalice:x:1\n1000:200000:5\n"
	if n, free := countSubIDs(text, "alice", 1000); n != 1005 || free != 200005 {
		t.Errorf("%d ids, free from %d", n, free)
	}
}

func TestGather(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	f := Gather(t.Context(), Options{DataDir: dir + "/not/there", Socket: dir + "/moss.sock", Connect: func(context.Context) (Manager, error) {
		return nil, errors.New("no manager")
	}})
	if f.Kernel == "" || f.User == "" || f.DataFS == "" || f.DataFS == "unknown" || f.SystemdError == nil || f.UnitsInstalled || f.RuntimeDirError != nil {
		t.Errorf("%+v", f)
	}
}

// What this machine looks like, for people: go test -v.
func TestHere(t *testing.T) {
	f := Gather(t.Context(), Options{DataDir: t.TempDir(), Socket: "/nonexistent", Connect: func(ctx context.Context) (Manager, error) {
		return units.New(ctx, units.Options{})
	}})
	for _, c := range Examine(f) {
		t.Logf("%-4s %s: %s  [%s]", c.Verdict, c.Name, c.Detail, c.Mend)
		if c.Verdict != OK && c.Mend == "" || c.Detail == "" {
			t.Errorf("%s has no detail, or nothing that mends it", c.Name)
		}
	}
}

func TestPastTheDriver(t *testing.T) {
	for want, f := range map[string]Facts{
		"TCP goes out past it":               {Driver: "slirp4netns", DriverPassed: true},
		"TCP goes out through it: no tproxy": {Driver: "slirp4netns", DriverPassedWhy: "no tproxy"},
	} {
		if c := network(f); c.Verdict != OK || !strings.Contains(c.Detail, want) {
			t.Errorf("%+v, want %q", c, want)
		}
	}
}
