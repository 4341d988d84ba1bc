package meter

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

var _ engine.Meter = (*Meter)(nil)

// tree has real processes' files beside cgroups that the test makes up.
type tree struct {
	*Meter
	name  string // of the hierarchy
	group string
	pids  map[moss.ContainerID]*exec.Cmd
}

func newTree(t *testing.T, name string) *tree {
	top := t.TempDir()
	tr := &tree{name: name, group: filepath.Join(top, "cgroup"), pids: map[moss.ContainerID]*exec.Cmd{}}
	tr.Meter = &Meter{Proc: filepath.Join(top, "proc"), mounts: map[string]mount{name: {root: "/user", point: tr.group}}}
	must(t, os.MkdirAll(tr.Proc, 0o700))
	must(t, os.Symlink("/proc/stat", filepath.Join(tr.Proc, "stat")))
	return tr
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (tr *tree) unit(id moss.ContainerID) string { return "moss.slice/moss-" + id.Short() + ".service" }

func (tr *tree) write(t *testing.T, id moss.ContainerID, name, text string) {
	t.Helper()
	path := filepath.Join(tr.group, tr.unit(id), name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(text), 0o600))
}

// start runs a process in a cgroup below the unit's, where an init would put it.
func (tr *tree) start(t *testing.T, id moss.ContainerID, args ...string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tr.pids[id] = cmd
	pid := cmd.Process.Pid
	dir := filepath.Join(tr.Proc, strconv.Itoa(pid))
	must(t, os.MkdirAll(filepath.Join(dir, "net"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "cgroup"), fmt.Appendf(nil, "4:memory:/x\n%s:%s:/user/%s/init.scope\n", map[string]string{"": "0"}[tr.name]+map[string]string{"name=systemd": "1"}[tr.name], tr.name, tr.unit(id)), 0o600))
	for _, name := range []string{"stat", "status", "cmdline", "net/dev"} {
		must(t, os.Symlink(fmt.Sprintf("/proc/%d/%s", pid, name), filepath.Join(dir, name)))
	}
	tr.write(t, id, "cgroup.procs", "")
	tr.write(t, id, "init.scope/cgroup.procs", fmt.Sprintf("%d\n%d\n", pid, 1<<22)) // the other has just ended
	return pid
}

type treeRig struct{ *tree }

func (r treeRig) Meter() engine.Meter { return r.tree.Meter }

func (r treeRig) Start(t *testing.T) (moss.ContainerID, int) {
	id := moss.ContainerID(moss.NewHexID())
	return id, r.start(t, id, "sleep", "1000")
}

func (r treeRig) Stop(t *testing.T, id moss.ContainerID) {
	pid := r.pids[id].Process.Pid
	must(t, r.pids[id].Process.Kill())
	_ = r.pids[id].Wait() // it was killed
	must(t, os.RemoveAll(filepath.Join(r.Proc, strconv.Itoa(pid))))
	must(t, os.RemoveAll(filepath.Join(r.group, r.unit(id))))
}

func TestContract(t *testing.T) {
	for _, name := range []string{"", "name=systemd"} {
		t.Run("hierarchy "+name, func(t *testing.T) {
			porttest.Meter(t, func(t *testing.T) porttest.MeterRig { return treeRig{newTree(t, name)} })
		})
	}
}

// Without cgroups, the processes' mount namespace is what tells.
func TestContractShared(t *testing.T) {
	porttest.Meter(t, func(t *testing.T) porttest.MeterRig {
		r := sharedRig{&Meter{Proc: "/proc"}, map[moss.ContainerID]*exec.Cmd{}}
		r.m.Main = func(id moss.ContainerID) (int, error) {
			if cmd := r.all[id]; cmd != nil {
				return cmd.Process.Pid, nil
			}
			return 0, nil
		}
		return r
	})
}

type sharedRig struct {
	m   *Meter
	all map[moss.ContainerID]*exec.Cmd
}

func (r sharedRig) Meter() engine.Meter { return r.m }

func (r sharedRig) Start(t *testing.T) (moss.ContainerID, int) {
	id := moss.ContainerID(moss.NewHexID())
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r.all[id] = cmd
	return id, cmd.Process.Pid
}

func (r sharedRig) Stop(t *testing.T, id moss.ContainerID) {
	must(t, r.all[id].Process.Kill())
	_ = r.all[id].Wait() // it was killed
	delete(r.all, id)
}

// Where the controllers are there, their files are what counts.
func TestSampleOfControllers(t *testing.T) {
	tr, id := newTree(t, ""), moss.ContainerID(moss.NewHexID())
	pid := tr.start(t, id, "sleep", "1000")
	for name, text := range map[string]string{
		"cpu.stat":       "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 5\nnr_throttled 4\nthrottled_usec 7\n",
		"memory.current": "4096\n", "memory.max": "8192\n", "memory.stat": "anon 1\ninactive_file 2\n", "memory.events": "low 0\nmax 6\n",
		"pids.current": "3\n", "pids.max": "max\n",
		"io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
	} {
		tr.write(t, id, name, text)
	}
	s, err := tr.Sample(t.Context(), id, pid)
	must(t, err)
	if s.CPU != 3*time.Millisecond || s.CPUUser != 2*time.Millisecond || s.CPUKern != time.Millisecond || s.Periods != 5 || s.Throttled != 4 || s.ThrottledTime != 7*time.Microsecond {
		t.Errorf("cpu: %+v", s)
	}
	if s.Memory != 4096 || s.MemoryLimit != 8192 || s.MemoryStats["inactive_file"] != 2 || s.MemoryFailures != 6 || s.PIDs != 3 || s.PIDsLimit != 0 {
		t.Errorf("memory and pids: %+v", s)
	}
	if len(s.BlockIO) != 2 || s.BlockIO[0] != (moss.BlockIO{Major: 8, Op: "read", Bytes: 10}) || s.BlockIO[1].Bytes != 20 {
		t.Errorf("disks: %+v", s.BlockIO)
	}
	tr.write(t, id, "memory.max", "max\n")
	if s, err = tr.Sample(t.Context(), id, pid); err != nil || s.MemoryLimit <= 8192 {
		t.Errorf("no limit: %+v %v", s, err)
	}
}

// A process that works is seen to, without any controller.
func TestSampleOfProcesses(t *testing.T) {
	tr, id := newTree(t, "name=systemd"), moss.ContainerID(moss.NewHexID())
	pid := tr.start(t, id, "sh", "-c", "while :; do :; done")
	for deadline := time.Now().Add(20 * time.Second); ; {
		s, err := tr.Sample(t.Context(), id, pid)
		must(t, err)
		if s.CPU >= 50*time.Millisecond && s.CPUUser+s.CPUKern == s.CPU {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s)
		}
	}
}

func TestParseStat(t *testing.T) {
	boot := time.Unix(1000, 0)
	p, err := parseStat("7 (a) (b) S 1 7 5 34817 7 4194560 100 0 0 0 250 50 10 5 20 -5 3 0 1234 8192 2 18446744073709551615 1 2", boot)
	must(t, err)
	if p.PID != 7 || p.Comm != "a) (b" || p.State != "S" || p.PPID != 1 || p.PGID != 7 || p.SID != 5 || p.TTY != "pts/1" || !p.Foreground ||
		p.CPU != 3*time.Second || p.Nice != -5 || p.Threads != 3 || !p.Started.Equal(boot.Add(12340*time.Millisecond)) || p.VSZ != 8192 || p.RSS != 2*int64(os.Getpagesize()) {
		t.Errorf("%+v", p)
	}
	for _, bad := range []string{"", "7", "7 (a", "x (a) S 1", "7 (a) S 1 2 3", "7 (a) S " + strings.Repeat("x ", 30)} {
		if p, err := parseStat(bad, boot); err == nil {
			t.Errorf("%q: %+v", bad, p)
		}
	}
	for dev, want := range map[int64]string{0: "?", 34816: "pts/0", 35072: "pts/256", 1025: "tty1", 1281: "5,1"} {
		if got := ttyName(dev); got != want {
			t.Errorf("%d: %s, want %s", dev, got, want)
		}
	}
}

func TestCgroupMount(t *testing.T) {
	for line, want := range map[string]string{
		"431 430 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw":                                 " {/ /sys/fs/cgroup} true",
		"30 29 0:26 /a\\040b /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd": "name=systemd {/a b /sys/fs/cgroup/systemd} true",
		"33 29 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory":                              " { } false",
		"short": " { } false",
	} {
		name, at, ok := cgroupMount(line)
		if got := fmt.Sprint(name, " ", at, " ", ok); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (a) S 1 7 5 34817 7 4194560 100 0 0 0 250 50 10 5 20 -5 3 0 1234 8192 2 1")
	f.Fuzz(func(_ *testing.T, text string) {
		if _, err := parseStat(text, time.Time{}); err == nil {
			statTimes(text)
		}
	})
}
