package meter

import (
	"strings"
	"testing"
)

// FuzzUse: what the kernel tells of I/O, of links and of numbers, in whatever shape.
func FuzzUse(f *testing.F) {
	f.Add("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n", "Inter-|\n face |\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n")
	f.Add("usage_usec 5\nusage_usec 6\nx -1\n", "lo: 1 2 3 4 5 6 7 8 9 10 11 12\n")
	f.Fuzz(func(t *testing.T, io, links string) {
		for _, b := range parseIO(io) {
			if b.Op != "read" && b.Op != "write" || !strings.Contains(io, "bytes=") {
				t.Errorf("%q has %+v", io, b)
			}
		}
		for name := range parseLinks(links) {
			if name == "" || name == "lo" || strings.ContainsAny(name, ":\n") {
				t.Errorf("the link %q in %q", name, links)
			}
		}
		for key := range flat(io) {
			if len(strings.Fields(key)) != 1 || !strings.Contains(io, key) {
				t.Errorf("%q has the number of %q", io, key)
			}
		}
	})
}

// FuzzMountinfo: wherever the kernel says that a hierarchy is mounted, it is found there.
func FuzzMountinfo(f *testing.F) {
	f.Add("/user.slice", "/sys/fs/cgroup", "35 24 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup rw")
	f.Add("/a b\n\\", "/\t - x\v\u2003", "1 2 3 4 5 6 - cgroup cgroup rw,name=systemd")
	f.Fuzz(func(t *testing.T, root, point, line string) {
		if _, at, ok := cgroupMount(line); !ok && at != (mount{}) {
			t.Errorf("%q is none, and is %+v", line, at)
		}
		root, point = "/"+root, "/"+point                                                   // paths of the kernel's are
		escape := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`) // seq_path of the kernel
		for kind, want := range map[string]string{"cgroup2 cgroup2 rw": "", "cgroup systemd rw,name=systemd": "name=systemd"} {
			name, at, ok := cgroupMount("35 24 0:30 " + escape.Replace(root) + " " + escape.Replace(point) + " rw,nosuid shared:9 - " + kind)
			if !ok || name != want || at != (mount{root: root, point: point}) {
				t.Errorf("%q at %q is %q, %+v, %v", root, point, name, at, ok)
			}
		}
	})
}

// FuzzUnitPath: the unit that is found is the container's, and holds the process.
func FuzzUnitPath(f *testing.F) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	f.Add("/user.slice/moss.slice/moss-0123456789ab.service/payload")
	f.Add("/moss-0123456789ab.service")
	f.Add("moss-0123456789ab.service/-0123456789ab.service")
	f.Fuzz(func(t *testing.T, path string) {
		unit, ok := unitPath(path, id)
		if ok != strings.Contains(path+"/", "-0123456789ab.service/") {
			t.Errorf("%q is in the unit %q: %v", path, unit, ok)
		}
		if !ok {
			return
		}
		if again, ok := unitPath(unit, id); !ok || again != unit || unit != path && !strings.HasPrefix(path, unit+"/") {
			t.Errorf("%q is in %q, which is in %q", path, unit, again)
		}
	})
}
