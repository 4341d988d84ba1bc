package runtime

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testEnv = Environment{
	Capabilities: []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_SYS_ADMIN", "CAP_MKNOD",
		"CAP_AUDIT_WRITE", "CAP_SETFCAP",
	},
	Devices:     []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}},
	OOMScoreAdj: 100,
	IDs:         65536,
	Mqueue:      true,
	Init:        "/bin/moss-runtime",
	Rlimits:     map[string]uint64{"nofile": 4096, "core": unix.RLIM_INFINITY},
}

var testAccounts = Accounts{
	Passwd: []byte("root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\n"),
	Group:  []byte("root:x:0:\nweb:x:102:\naudio:x:29:web\nvideo:x:44:\n"),
}

func testBundle() moss.Bundle {
	return moss.Bundle{
		Container: moss.Container{
			ID: "c0ffee", Name: "web", Path: "sh", Args: []string{"-c", "true"},
			Config: moss.ContainerConfig{Hostname: "c0ffee"},
		},
		Rootfs:     moss.Mount{Path: "/storage/merged"},
		Attachment: moss.Attachment{Mode: moss.NetworkBridge, NetNS: "/run/moss/netns/c0ffee"},
		Hosts:      "/data/hosts", Hostname: "/data/hostname", Resolv: "/data/resolv.conf",
	}
}

// Every case is a golden file; seccomp is told apart in TestSeccomp.
func TestSpecGolden(t *testing.T) {
	umask := uint32(0o027)
	for name, change := range map[string]func(*moss.Bundle){
		"default": func(*moss.Bundle) {},
		"kept-groups": func(b *moss.Bundle) {
			h := &b.Container.Host
			h.GroupAdd, h.Annotations, h.AppArmor = []string{moss.KeepGroups}, map[string]string{"mine": "yes"}, "mine"
			b.Container.Config.User = "1:1"
		},
		"privileged": func(b *moss.Bundle) {
			b.Container.Host.Privileged = true
			b.Container.Host.CapDrop = []string{"CHOWN"} // does not count
		},
		"host-network": func(b *moss.Bundle) {
			b.Container.Host.NetworkMode = moss.NetworkHost
			b.Attachment = moss.Attachment{Mode: moss.NetworkHost}
		},
		"host-everything": func(b *moss.Bundle) {
			h := &b.Container.Host
			h.NetworkMode, h.PidMode, h.IpcMode, h.UTSMode, h.CgroupNS = moss.NetworkHost, "host", "host", "host", "host"
			b.Attachment = moss.Attachment{Mode: moss.NetworkHost}
		},
		"joined": func(b *moss.Bundle) {
			h := &b.Container.Host
			h.NetworkMode, h.PidMode, h.IpcMode = "container:d0", "container:d0", "container:d0"
			h.Init = new(true) // it would not be the first process
			b.Attachment.Mode = "container:d0"
			b.IPC, b.Processes, b.Shm = moss.Join{ID: "d0", PID: 77}, moss.Join{ID: "d0", PID: 77}, "/run/moss/bundles/d0/shm"
		},
		"selinux": func(b *moss.Bundle) {
			b.Container.Host.LabelOpts = []string{"type:mine_t", moss.LabelNested}
			b.Container.SELinux = moss.SELinux{Process: "system_u:system_r:mine_t:s0:c1,c2", Mount: "system_u:object_r:container_file_t:s0:c1,c2"}
		},
		"userns": func(b *moss.Bundle) {
			m := []moss.IDMap{{Container: 0, Engine: 1, Size: 1000}, {Container: 1000, Engine: 0, Size: 1}}
			b.Container.IDMaps = &moss.IDMaps{UIDs: m, GIDs: m}
			b.Container.Config.User = "1000:1000"
			b.Container.Host.Sysctls = map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "5"}
		},
		"init-devices": func(b *moss.Bundle) {
			b.Container.Host.Init = new(true)
			b.Container.Host.IpcMode, b.Shm = "shareable", "/run/moss/bundles/c0ffee/shm"
			b.Container.Host.Devices = []moss.Device{{Host: "/dev/fuse", Container: "/dev/f", Permissions: "rwm"}}
		},
		"tty": func(b *moss.Bundle) {
			b.Container.Config.TTY = true
			b.Container.Host.ConsoleSize = moss.TermSize{Rows: 24, Cols: 80}
			b.Container.Config.Env = []string{"PATH=/bin", "A=1", "A=2"}
			b.Container.Config.WorkingDir = "srv/../tmp"
		},
		"readonly-tmpfs": func(b *moss.Bundle) {
			b.Container.Host.ReadonlyRootfs = true
			b.Container.Mounts = []moss.MountPoint{
				{Type: moss.MountTmpfs, Target: "/run/lock/deep"},
				{Type: moss.MountTmpfs, Target: "/run", TmpfsOptions: "size=64m,mode=1770,exec"},
				{Type: moss.MountTmpfs, Target: "/dev/shm", ReadOnly: true},
			}
		},
		"binds": func(b *moss.Bundle) {
			b.Container.Mounts = []moss.MountPoint{
				{Type: moss.MountBind, Source: "/home/a", Target: "/data/in", ReadOnly: true},
				{Type: moss.MountBind, Source: "/home/b", Target: "/data", Propagation: "rshared"},
				{Type: moss.MountBind, Source: "/home/c", Target: "/etc/hosts", NonRecursive: true, ReadOnly: true},
				{Type: moss.MountBind, Source: "/home/d", Target: "/top", ReadOnly: true, ReadOnlyTop: true},
				{Type: moss.MountBind, Source: "/home/d", Target: "/proc/x", Propagation: "slave"},
				{Type: moss.MountBind, Source: "/home/e", Target: "/etc"},
			}
		},
		"capabilities": func(b *moss.Bundle) {
			b.Container.Host.CapAdd = []string{"net_admin", "CAP_SYS_ADMIN"}
			b.Container.Host.CapDrop = []string{"mknod", "Audit_Write"}
			b.Container.Host.NoNewPrivileges = true
			b.Container.Host.Seccomp = "unconfined"
		},
		"ulimits": func(b *moss.Bundle) {
			b.Container.Host.Ulimits = []moss.Ulimit{{Name: "nofile", Soft: 1024, Hard: 4096}, {Name: "core", Soft: -1, Hard: -1}}
			b.Container.Host.OomScoreAdj = 500
			b.Container.Host.ShmSize = 1 << 20
			b.Container.Host.Umask = &umask
		},
		"user": func(b *moss.Bundle) {
			b.Container.Config.User = "web"
			b.Container.Host.GroupAdd = []string{"video", "5000"}
		},
		"sysctl": func(b *moss.Bundle) {
			b.Container.Host.Sysctls = map[string]string{"net.core.somaxconn": "1024", "kernel.msgmax": "4096", "net.ipv4.ip_unprivileged_port_start": "80"}
			b.Container.Config.Domainname = "example.org"
			b.Container.Host.Annotations = map[string]string{"a": "b"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := testBundle()
			change(&b)
			spec, err := Spec(b, testAccounts, testEnv)
			if err != nil {
				t.Fatal(err)
			}
			spec.Linux.Seccomp = nil
			got, err := json.MarshalIndent(spec, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", append(got, '\n'))
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

func TestSpecRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*moss.Bundle)
		class  moss.Class
		words  string
	}{
		"user":       {func(b *moss.Bundle) { b.Container.Config.User = "nobody" }, moss.Invalid, "unable to find user nobody: no matching entries in passwd file"},
		"group":      {func(b *moss.Bundle) { b.Container.Config.User = "0:no" }, moss.Invalid, "unable to find group no: no matching entries in group file"},
		"group add":  {func(b *moss.Bundle) { b.Container.Host.GroupAdd = []string{"no"} }, moss.Invalid, "unable to find group no: no matching entries in group file"},
		"high id":    {func(b *moss.Bundle) { b.Container.Config.User = "65536" }, moss.Invalid, "/etc/subuid"},
		"cap":        {func(b *moss.Bundle) { b.Container.Host.CapAdd = []string{"FOO"} }, moss.Invalid, `unknown capability: "FOO"`},
		"absent cap": {func(b *moss.Bundle) { b.Container.Host.CapAdd = []string{"BPF"} }, moss.Invalid, "not available in the current environment"},
		"sysctl":     {func(b *moss.Bundle) { b.Container.Host.Sysctls = map[string]string{"vm.swappiness": "1"} }, moss.Invalid, "whole machine"},
		"hostname":   {func(b *moss.Bundle) { b.Container.Host.Sysctls = map[string]string{"kernel/hostname": "x"} }, moss.Invalid, "--hostname"},
		"net sysctl": {func(b *moss.Bundle) {
			b.Container.Host.NetworkMode = moss.NetworkHost
			b.Container.Host.Sysctls = map[string]string{"net.core.somaxconn": "1"}
		}, moss.Invalid, "host's network"},
		"oom":             {func(b *moss.Bundle) { b.Container.Host.OomScoreAdj = -500 }, moss.Invalid, "100 to 1000"},
		"ulimit":          {func(b *moss.Bundle) { b.Container.Host.Ulimits = []moss.Ulimit{{Name: "nofile", Soft: 1, Hard: 4097}} }, moss.Invalid, "LimitNOFILE="},
		"ulimit name":     {func(b *moss.Bundle) { b.Container.Host.Ulimits = []moss.Ulimit{{Name: "x"}} }, moss.Invalid, "invalid ulimit type: x"},
		"ulimit soft":     {func(b *moss.Bundle) { b.Container.Host.Ulimits = []moss.Ulimit{{Name: "nofile", Soft: -1, Hard: 1}} }, moss.Invalid, "soft limit"},
		"seccomp":         {func(b *moss.Bundle) { b.Container.Host.Seccomp = "{" }, moss.Invalid, "seccomp"},
		"seccomp default": {func(b *moss.Bundle) { b.Container.Host.Seccomp = `{"defaultAction":"NOPE"}` }, moss.Invalid, `unknown defaultAction "NOPE"`},
		"seccomp action": {func(b *moss.Bundle) {
			b.Container.Host.Seccomp = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"NOPE"}]}`
		}, moss.Invalid, `unknown action "NOPE" for mkdir`},
		"seccomp operator": {func(b *moss.Bundle) {
			b.Container.Host.Seccomp = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"op":"NOPE"}]}]}`
		}, moss.Invalid, `unknown operator "NOPE" for mkdir`},
		"pid mode":   {func(b *moss.Bundle) { b.Container.Host.PidMode = "container:x" }, moss.NotImplemented, "PidMode"},
		"no command": {func(b *moss.Bundle) { b.Container.Path = "" }, moss.Invalid, "no command specified"},
		"duplicate": {func(b *moss.Bundle) {
			b.Container.Mounts = []moss.MountPoint{{Type: moss.MountTmpfs, Target: "/a"}, {Type: moss.MountTmpfs, Target: "/a/"}}
		}, moss.Invalid, "Duplicate mount point: /a"},
		"root": {func(b *moss.Bundle) { b.Container.Mounts = []moss.MountPoint{{Type: moss.MountTmpfs, Target: "/x/.."}} }, moss.Invalid, "invalid mount target"},
		"propagation": {func(b *moss.Bundle) {
			b.Container.Mounts = []moss.MountPoint{{Type: moss.MountBind, Source: "/a", Target: "/a", Propagation: "up"}}
		}, moss.Invalid, "propagation"},
		"type": {func(b *moss.Bundle) { b.Container.Mounts = []moss.MountPoint{{Type: "volume", Target: "/a"}} }, moss.NotImplemented, "volume"},
	} {
		t.Run(name, func(t *testing.T) {
			b := testBundle()
			tc.change(&b)
			_, err := Spec(b, testAccounts, testEnv)
			if err == nil || moss.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("got %v (%v), want %v with %q", err, moss.ClassOf(err), tc.class, tc.words)
			}
		})
	}
}

func TestSeccomp(t *testing.T) {
	allows := func(t *testing.T, change func(*moss.Bundle), call string) bool {
		t.Helper()
		b := testBundle()
		change(&b)
		spec, err := Spec(b, testAccounts, testEnv)
		if err != nil {
			t.Fatal(err)
		}
		if spec.Linux.Seccomp == nil {
			return true
		}
		return slices.ContainsFunc(spec.Linux.Seccomp.Syscalls, func(s specs.LinuxSyscall) bool {
			return s.Action == specs.ActAllow && slices.Contains(s.Names, call) && len(s.Args) == 0
		})
	}
	plain := func(*moss.Bundle) {}
	admin := func(b *moss.Bundle) { b.Container.Host.CapAdd = []string{"SYS_ADMIN"} }
	own := func(b *moss.Bundle) {
		b.Container.Host.Seccomp = `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW"}]}`
	}
	if !allows(t, plain, "read") || allows(t, plain, "mount") {
		t.Error("the default profile must allow read and not mount")
	}
	if !allows(t, admin, "mount") || allows(t, plain, "mount") {
		t.Error("with CAP_SYS_ADMIN, and only then, mount must be allowed")
	}
	if !allows(t, own, "mount") || allows(t, own, "read") {
		t.Error("the user's own profile must count")
	}
	if !allows(t, func(b *moss.Bundle) { b.Container.Host.Privileged = true }, "kexec_load") {
		t.Error("a privileged container must have no filter")
	}
}

func TestExecProcess(t *testing.T) {
	b := testBundle()
	b.Container.Config.User = "web"
	b.Container.Config.Env = []string{"A=1"}
	b.Container.Host.GroupAdd = []string{"video"}
	spec, err := Spec(b, testAccounts, testEnv)
	if err != nil {
		t.Fatal(err)
	}
	run := func(e moss.ExecConfig) *specs.Process {
		t.Helper()
		e.Cmd = []string{"id"}
		p, err := ExecProcess(&b.Container, spec.Process, e, testAccounts, testEnv)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	plain := run(moss.ExecConfig{})
	if plain.User.UID != 101 || len(plain.Capabilities.Effective) != 0 || !slices.Contains(plain.Env, "HOME=/srv/web") {
		t.Errorf("plain: %+v", plain)
	}
	root := run(moss.ExecConfig{User: "root", Privileged: true, TTY: true, WorkingDir: "/x", Env: []string{"A=2", "PATH"}})
	if root.User.UID != 0 || !slices.Equal(root.Capabilities.Effective, testEnv.Capabilities) || !root.Terminal || root.Cwd != "/x" {
		t.Errorf("root: %+v", root)
	}
	if want := []string{"HOSTNAME=c0ffee", "TERM=xterm", "A=2", "HOME=/root"}; !slices.Equal(root.Env, want) {
		t.Errorf("environment %q, want %q", root.Env, want)
	}
	if _, err := ExecProcess(&b.Container, spec.Process, moss.ExecConfig{}, testAccounts, testEnv); moss.ClassOf(err) != moss.Invalid || err == nil {
		t.Errorf("no command: %v", err)
	}
}

func TestFiles(t *testing.T) {
	c := moss.Container{Config: moss.ContainerConfig{Hostname: "web", Domainname: "example.org"}}
	c.Host.ExtraHosts = []string{"db:10.0.0.1", "six:[fd00::1]", "up:host-gateway"}
	a := moss.Attachment{
		Mode: moss.NetworkBridge, Interface: moss.Interface{Address: netip.MustParsePrefix("172.30.0.2/16")},
		DNS: []netip.Addr{netip.MustParseAddr("10.0.2.3")}, HostIP: netip.MustParseAddr("10.0.2.2"),
	}
	hosts, err := hostsFile(moss.Bundle{Container: c, Attachment: a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "hosts", hosts)
	a.HostIP = netip.Addr{}
	if _, err := hostsFile(moss.Bundle{Container: c, Attachment: a}, nil); moss.ClassOf(err) != moss.Invalid || err == nil {
		t.Errorf("host-gateway without a way to the host: %v", err)
	}
	if got := string(resolvFile(c, a, nil)); got != "nameserver 10.0.2.3\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	host := []byte("# mine\nnameserver 1.1.1.1\nsearch a b\noptions ndots:2\n")
	// Search domains and options are the host's, unless the network or the user has others.
	bridged := moss.Attachment{Mode: moss.NetworkBridge, DNS: a.DNS}
	if got := string(resolvFile(c, bridged, host)); got != "nameserver 10.0.2.3\nsearch a b\noptions ndots:2\n" {
		t.Errorf("resolv.conf with the host's search domains: %q", got)
	}
	bridged.Search, bridged.Options = []string{"net.example"}, []string{"timeout:1"}
	if got := string(resolvFile(c, bridged, host)); got != "nameserver 10.0.2.3\nsearch net.example\noptions timeout:1\n" {
		t.Errorf("resolv.conf with the network's search domains: %q", got)
	}
	bridged.Mode, bridged.DNS = moss.NetworkNone, nil
	if got := string(resolvFile(c, bridged, host)); got != "" {
		t.Errorf("resolv.conf without a network: %q", got)
	}
	onHost := moss.Attachment{Mode: moss.NetworkHost}
	if got := resolvFile(c, onHost, host); string(got) != string(host) {
		t.Errorf("host's resolv.conf: %q", got)
	}
	c.Host.DNS, c.Host.DNSSearch = []netip.Addr{netip.MustParseAddr("9.9.9.9")}, []string{"."}
	if got := string(resolvFile(c, onHost, host)); got != "nameserver 9.9.9.9\noptions ndots:2\n" {
		t.Errorf("changed resolv.conf: %q", got)
	}
	for _, bad := range []string{"x", ":1.2.3.4", "x:y", "x:1.2.3.4\nevil:1.1.1.1"} {
		if _, err := extraHost(bad, a); err == nil {
			t.Errorf("extra host %q was taken", bad)
		}
	}
}

func TestTranslate(t *testing.T) {
	for _, tc := range []struct {
		msg, words string
		class      moss.Class
	}{
		{`cannot create container "x": unable to start container process: error during container init: exec: "nope": executable file not found in $PATH`, `exec: "nope": executable file not found in $PATH`, moss.Invalid},
		{"executable file `nope` not found in $PATH: No such file or directory", `exec: "nope": executable file not found in $PATH`, moss.Invalid},
		{`exec: "/nope": stat /nope: no such file or directory`, `stat /nope: no such file or directory`, moss.Invalid},
		{`exec: "/etc/passwd": permission denied`, `permission denied`, moss.Invalid},
		{"open executable: Permission denied", "permission denied", moss.Invalid},
		{"exec /x: exec format error", "exec format error", moss.Invalid},
		{"cannot mount proc", "cannot mount proc", moss.Internal},
		{"unable to start container process: error during container init: open sysctl net.ipv4.foo file: unsafe procfs detected: openat2 fsmount:fscontext:proc/./sys/net/ipv4/foo: no such file or directory", `invalid sysctl "net.ipv4.foo": the kernel has none`, moss.Invalid},
		{`unable to start container process: error during container init: failed to write sysctl net.ipv4.ip_forward = "abc": write fsmount:fscontext:proc/./sys/net/ipv4/ip_forward: invalid argument`, `invalid sysctl "net.ipv4.ip_forward": the kernel does not take the value "abc": invalid argument`, moss.Invalid},
		{"unable to start container process: procReady not received", "--pids-limit", moss.Internal},
		{"cannot mount \x1b[2J", "cannot mount \uFFFD[2J", moss.Internal},
	} {
		err := translate(tc.msg)
		if moss.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: got %v (%v)", tc.msg, err, moss.ClassOf(err))
		}
	}
	for _, nothing := range []string{"", " \n", "moss-runtime: "} {
		if err := translate(nothing); err != nil {
			t.Errorf("%q is the error %q", nothing, err)
		}
	}
}

func TestAccountsInRoot(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if a, err := readAccounts(root); err != nil || a.Passwd != nil {
		t.Errorf("no files: %v %q", err, a.Passwd)
	}
	// A link upwards stays in the root; a fifo does not hold us up.
	if err := os.Symlink("../../../../../../etc/other", filepath.Join(root, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/other"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a, err := readAccounts(root); err != nil || string(a.Passwd) != "mine" {
		t.Errorf("link: %v %q", err, a.Passwd)
	}
	if err := unix.Mkfifo(filepath.Join(root, "etc/group"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readAccounts(root); moss.ClassOf(err) != moss.Invalid || err == nil {
		t.Errorf("fifo: %v", err)
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("web:29", string(testAccounts.Passwd), string(testAccounts.Group))
	f.Add("70000", "::::", "a:b:-1:")
	f.Fuzz(func(t *testing.T, name, passwd, group string) {
		who, _, err := Accounts{Passwd: []byte(passwd), Group: []byte(group)}.lookup(name, nil, 65536)
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("class %v: %v", moss.ClassOf(err), err)
			}
			return
		}
		for _, id := range append(who.AdditionalGids, who.UID, who.GID) {
			if id >= 65536 {
				t.Errorf("id %d is not mapped", id)
			}
		}
	})
}
