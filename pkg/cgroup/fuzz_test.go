package cgroup

import (
	"strconv"
	"strings"
	"testing"
)

// FuzzPath: what stands in a process's file is found behind any other hierarchies, and is one line of it.
func FuzzPath(f *testing.F) {
	f.Add("12:pids:/x\n1:name=systemd:/y\n", "/user.slice/a b.scope")
	f.Add("", "/gone (deleted)")
	f.Add("0::", "/../other")
	f.Add("10::/x", "")
	f.Fuzz(func(t *testing.T, before, path string) {
		if got, ok := pathIn(before); ok {
			if !strings.Contains("\n"+before, "\n0::"+got) || strings.Contains(got, "\n") {
				t.Errorf("%q has %q", before, got)
			}
			return
		}
		if strings.Contains(path, "\n") || before != "" && !strings.HasSuffix(before, "\n") {
			return
		}
		for _, end := range []string{"", "\n", " (deleted)\n", "\n0::/another\n"} {
			got, ok := pathIn(before + "0::" + path + end)
			if !ok || got != strings.TrimSuffix(path, " (deleted)") && got != path {
				t.Errorf("%q behind %q is %q, %v", path+end, before, got, ok)
			}
		}
	})
}

// FuzzOOMKills: the number is found behind whatever else there is, and all other lines are none.
func FuzzOOMKills(f *testing.F) {
	f.Add("low 0\nhigh 0\nmax 2\noom 1\n", uint64(3))
	f.Add("oom_kill -1\n", uint64(3))
	f.Add("oom_group_kill 5\n", uint64(1<<64-1))
	f.Fuzz(func(t *testing.T, before string, n uint64) {
		if got, err := oomKillsIn(before); strings.Contains("\n"+before, "\noom_kill ") {
			return
		} else if got != 0 || err != nil {
			t.Errorf("%q has %d kills, %v", before, got, err)
		}
		if before != "" && !strings.HasSuffix(before, "\n") {
			return
		}
		if got, err := oomKillsIn(before + "oom_kill " + strconv.FormatUint(n, 10) + "\noom_group_kill 7\n"); got != n || err != nil {
			t.Errorf("%d kills behind %q are %d, %v", n, before, got, err)
		}
	})
}
