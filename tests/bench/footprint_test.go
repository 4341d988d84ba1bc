package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const containers = 10

// BenchmarkFootprint counts what running containers cost in processes, and
// what the engine keeps in memory once it has worked and nothing goes on.
func BenchmarkFootprint(b *testing.B) {
	daemon, holder := unitCgroup(b, prefix+".service"), unitCgroup(b, prefix+"-rootless.service")
	var extra, idle, held float64
	for done := false; b.Loop(); done = true {
		if done {
			continue // it is always the same
		}
		before := len(processes(b, daemon)) + len(processes(b, holder))
		ids := make([]string, containers)
		for i := range ids {
			ids[i] = suite.must(b, "moss", "run", "-d", "-p", "127.0.0.1::80", "busybox", "sleep", "600")
		}
		engine := len(processes(b, daemon)) + len(processes(b, holder)) - before
		for _, id := range ids {
			own := processes(b, unitCgroup(b, prefix+"-"+id[:12]+".service"))
			engine += len(own) - 1
		}
		extra = max(extra, float64(engine)/containers)
		suite.must(b, append([]string{"moss", "rm", "-f"}, ids...)...)
		for range containers {
			suite.must(b, "moss", "run", "--rm", "busybox", "ls", "-lR", "/etc")
		}
		suite.must(b, "moss", "images")
		time.Sleep(20 * time.Second) // idle is a matter of time: the watchdog's look, every 15 s, gives the program's pages back
		idle, held = max(idle, memory(b, daemon)), max(held, memory(b, holder))
	}
	b.ReportMetric(0, "ns/op")
	fmt.Println("\nidle engine after work, PSS by process:")
	for _, cgroup := range []string{daemon, holder} {
		for _, pid := range processes(b, cgroup) {
			if kb, err := pss(pid); err == nil {
				cmdline, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
				fmt.Printf("    %7.1f MB  %.90s\n", float64(kb)/1024, strings.ReplaceAll(string(cmdline), "\x00", " "))
			}
		}
	}
	check(b, figure{"processes/container", extra, 0})
	check(b, figure{"daemon-MB", idle, 35})
	check(b, figure{"holder-MB", held, 25})
}

func unitCgroup(b *testing.B, unit string) string {
	b.Helper()
	at := suite.must(b, "systemctl", "--user", "show", "--property=ControlGroup", "--value", unit)
	if at == "" {
		b.Fatalf("unit %s is not running", unit)
	}
	return at
}

// processes are those of a cgroup and all below it.
func processes(b *testing.B, cgroup string) []string {
	b.Helper()
	var pids []string
	err := filepath.WalkDir(filepath.Join(cgroups, cgroup), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		data, err := os.ReadFile(path)
		pids = append(pids, strings.Fields(string(data))...)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return pids
}

// memory is the proportional set size of a cgroup's processes in MB (1024 kB).
func memory(b *testing.B, cgroup string) float64 {
	b.Helper()
	sum := 0
	for _, pid := range processes(b, cgroup) {
		kb, err := pss(pid)
		if errors.Is(err, fs.ErrPermission) && comm(pid) == "(sd-pam)" {
			continue // the user manager's keeper of its session: not for others to look at, and idle
		}
		if err != nil {
			b.Fatal(err)
		}
		sum += kb
	}
	return float64(sum) / 1024
}

// comm is the name of a process; "" where there is none.
func comm(pid string) string {
	name, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(name))
}

// pss is the proportional set size of a process in kB (proc(5), smaps_rollup).
func pss(pid string) (int, error) {
	data, err := os.ReadFile(filepath.Join("/proc", pid, "smaps_rollup"))
	if err != nil {
		return 0, err
	}
	return pssOf(string(data))
}

func pssOf(rollup string) (int, error) {
	for line := range strings.Lines(rollup) {
		if v, ok := strings.CutPrefix(line, "Pss:"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
		}
	}
	return 0, errors.New("no Pss in smaps_rollup")
}
