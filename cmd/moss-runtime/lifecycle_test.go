package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"
)

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// ended waits until the container's process is gone.
func (c *container) ended() {
	c.t.Helper()
	waitFor(c.t, "the container to stop", func() bool { return c.state().Status == specs.StateStopped })
}

func TestLifecycle(t *testing.T) {
	c := newContainer(t, "sh", "-c", "echo out; echo err >&2; sleep 100")
	pidFile := filepath.Join(filepath.Dir(c.bundle), "pid")
	c.create("--pid-file", pidFile).ok()

	s := c.state()
	if s.Status != specs.StateCreated || s.ID != c.id || s.Bundle != c.bundle || s.Version != specs.Version ||
		s.Rootfs != filepath.Join(c.bundle, "rootfs") || s.Annotations["org.example.key"] != "value" {
		t.Errorf("state of a created container: %+v", s)
	}
	if _, err := time.Parse(time.RFC3339Nano, s.Created); err != nil {
		t.Errorf("created: %v", err)
	}
	if data, err := os.ReadFile(pidFile); err != nil || string(data) != strconv.Itoa(s.Pid) {
		t.Errorf("pid file: %q, %v; state says %d", data, err, s.Pid)
	}
	if out := c.read("stdout"); out != "" {
		t.Errorf("it ran before the start: %q", out)
	}
	c.create().fails(1, "already exists")

	c.do("start", c.id).ok()
	waitFor(t, "the output", func() bool { return c.read("stdout") == "out\n" && c.read("stderr") != "" })
	if got := c.state().Status; got != specs.StateRunning {
		t.Errorf("status %q after start", got)
	}
	c.do("start", c.id).fails(1, "already running")
	c.do("delete", c.id).fails(1, "it is running")

	c.do("kill", c.id, "KILL").ok()
	c.ended()
	if pid := c.state().Pid; pid != 0 {
		t.Errorf("a stopped container has pid %d", pid)
	}
	c.do("kill", c.id).fails(1, "container not running")
	c.do("kill", "--all", c.id, "KILL").ok()
	c.do("start", c.id).fails(1, "it has stopped")
	c.do("exec", c.id, "true").fails(255, "container not running")
	c.do("delete", c.id).ok()
	c.do("delete", c.id).fails(1, "container does not exist")
	c.do("delete", "--force", c.id).ok()
	c.do("state", c.id).fails(1, "container does not exist")
}

// Whoever lets the process go may be killed between the opening of its fifo and the
// reading: nothing has been started then, and the next start does it.
func TestStartCutShort(t *testing.T) {
	c := newContainer(t, "sh", "-c", "echo out; sleep 100")
	c.create().ok()
	pid := c.state().Pid
	for range 20 {
		fd, err := unix.Open(filepath.Join(c.root, c.id, "exec.fifo"), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Close(fd); err != nil {
			t.Fatal(err)
		}
	}
	c.do("start", c.id).ok()
	waitFor(t, "the output", func() bool { return c.read("stdout") == "out\n" })
	if s := c.state(); s.Status != specs.StateRunning || s.Pid != pid {
		t.Errorf("after the start: %+v", s)
	}
	if text := c.read("stderr"); text != "" {
		t.Errorf("it says %q", text)
	}
}

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0},
		{"exit 1", 1},
		{"exit 255", 255},
	} {
		c := newContainer(t, "sh", "-c", test.script)
		if got := c.run().code; got != test.want {
			t.Errorf("%q: exit code %d, want %d", test.script, got, test.want)
		}
	}
}

func TestRunPassesStdioAndSignals(t *testing.T) {
	c := newContainer(t, "sh", "-c", "trap 'echo got it; exit 7' TERM; echo ready; cat >/dev/null & while :; do sleep 0.01; done")
	cmd := c.launch("run")
	out := c.output("stdout")
	defer out.Close()
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the container", func() bool { return strings.Contains(c.read("stdout"), "ready") })
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := exitCode(t, cmd.Wait()); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if got := c.read("stdout"); !strings.Contains(got, "got it") {
		t.Errorf("output %q", got)
	}
	c.do("state", c.id).fails(1, "does not exist")

	c = newContainer(t, "cat")
	cmd = c.launch("run")
	cmd.Stdin = strings.NewReader("through and through")
	if r := finish(t, cmd); r.ok() != "through and through" {
		t.Errorf("output %q", r.stdout)
	}
}

func TestRunDetachedAndKeep(t *testing.T) {
	c := newContainer(t, "sleep", "100")
	if r := finishDetached(c, "run", "--detach"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	if got := c.state().Status; got != specs.StateRunning {
		t.Errorf("status %q", got)
	}
	c = newContainer(t, "true")
	finish(t, c.launch("run", "--keep")).ok()
	if got := c.state().Status; got != specs.StateStopped {
		t.Errorf("status %q of a kept container", got)
	}
}

// finishDetached keeps the container's output out of pipes, whose end it holds.
func finishDetached(c *container, verb string, args ...string) result {
	c.t.Helper()
	cmd := c.launch(verb, args...)
	out := c.output("stderr")
	defer out.Close()
	cmd.Stderr = out
	err := cmd.Run()
	return result{c.t, exitCode(c.t, err), "", c.read("stderr")}
}

func TestKillSignals(t *testing.T) {
	for _, test := range []struct{ arg, got string }{
		{"", "TERM"}, {"SIGUSR1", "USR1"}, {"hup", "HUP"}, {"2", "INT"}, {"RTMIN+3", "37"},
	} {
		c := newContainer(t, "sh", "-c",
			"for s in TERM USR1 HUP INT 37; do trap \"echo $s; exit\" $s; done; echo ready; while :; do sleep 0.01; done")
		c.up()
		waitFor(t, "the traps", func() bool { return strings.Contains(c.read("stdout"), "ready") })
		args := []string{"kill", c.id}
		if test.arg != "" {
			args = append(args, test.arg)
		}
		c.do(args...).ok()
		c.ended()
		if out := c.read("stdout"); out != "ready\n"+test.got+"\n" {
			t.Errorf("kill %q: output %q", test.arg, out)
		}
	}
	c := newContainer(t, "sleep", "100")
	c.create().ok()
	c.do("kill", c.id, "NOSUCH").fails(1, `unknown signal "NOSUCH"`)
	c.do("kill", c.id, "65").fails(1, `unknown signal "65"`)
}

func TestDeleteForceKills(t *testing.T) {
	c := newContainer(t, "sleep", "100")
	c.up()
	pid := c.state().Pid
	c.do("delete", "--force", c.id).ok()
	if data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil && !strings.Contains(string(data), ") Z ") {
		t.Errorf("process is alive: %s", data)
	}
	// A created container is deleted without force.
	c = newContainer(t, "sleep", "100")
	c.create().ok()
	c.do("delete", c.id).ok()
}

func TestDeleteAfterAnAbortedCreate(t *testing.T) {
	c := newContainer(t, "true")
	if err := os.MkdirAll(filepath.Join(c.root, c.id), 0o700); err != nil {
		t.Fatal(err)
	}
	c.do("delete", "--force", c.id).ok()

	// As if create had been killed between libcontainer's state and the record.
	c = newContainer(t, "sleep", "100")
	c.create().ok()
	pid := c.state().Pid
	if err := os.Remove(filepath.Join(c.root, c.id, "moss.json")); err != nil {
		t.Fatal(err)
	}
	c.do("delete", c.id).ok()
	waitFor(t, "the process to go", func() bool {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(data), ") Z ")
	})
}

func TestCreateFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		change func(*specs.Spec)
		words  []string
	}{
		{name: "missing command", args: []string{"nope"}, words: []string{`exec: "nope": executable file not found in $PATH`}},
		{name: "missing path", args: []string{"/bin/nope"}, words: []string{`exec: "/bin/nope": stat /bin/nope: no such file or directory`}},
		{name: "not executable", args: []string{"/bin/notexec"}, words: []string{`exec: "/bin/notexec": permission denied`}},
		{name: "a directory", args: []string{"/bin"}, words: []string{`exec: "/bin": is a directory`}},
		{name: "no args", words: []string{"args is empty"}},
		{name: "bad cwd", args: []string{"true"}, change: func(s *specs.Spec) { s.Process.Cwd = "/etc/passwd" }, words: []string{"not a directory"}},
		{name: "relative cwd", args: []string{"true"}, change: func(s *specs.Spec) { s.Process.Cwd = "tmp" }, words: []string{"not an absolute path"}},
		{name: "no rootfs", args: []string{"true"}, change: func(s *specs.Spec) { s.Root.Path = "nowhere" }, words: []string{"no such file or directory"}},
		{name: "missing bind source", args: []string{"true"}, change: func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/no/such", Options: []string{"bind"}})
		}, words: []string{"/no/such", "no such file or directory"}},
		{name: "bad netns", args: []string{"true"}, change: func(s *specs.Spec) { s.Linux.Namespaces[1].Path = "/no/netns" }, words: []string{"/no/netns"}},
		{name: "terminal without socket", args: []string{"true"}, change: func(s *specs.Spec) { s.Process.Terminal = true }, words: []string{"--console-socket"}},
		{name: "unmapped user", args: []string{"true"}, change: func(s *specs.Spec) { s.Process.User.UID = 4000000 }, words: []string{"uid 4000000 is not mapped"}},
		{name: "unknown rlimit", args: []string{"true"}, change: func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, words: []string{"RLIMIT_X"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newContainer(t, test.args...)
			if test.change != nil {
				test.change(c.spec)
			}
			c.create().fails(1, test.words...)
			// The engine reads the reason from the log.
			lines := strings.Split(strings.TrimSpace(c.read("log")), "\n")
			var entry struct{ Level, Msg, Time string }
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &entry); err != nil {
				t.Fatalf("log %q: %v", lines, err)
			}
			if entry.Level != "error" || entry.Time == "" || !strings.Contains(entry.Msg, test.words[0]) {
				t.Errorf("log entry %+v", entry)
			}
			c.checkGone()
		})
	}
}

// checkGone fails the test if a failed create left state or processes.
func (c *container) checkGone() {
	c.t.Helper()
	c.do("state", c.id).fails(1, "does not exist")
	if left, _ := os.ReadDir(c.root); len(left) != 0 {
		c.t.Errorf("left in the state directory: %v", left)
	}
	if c.cgroup != "" {
		if data, _ := os.ReadFile(filepath.Join(c.cgroup, "cgroup.procs")); len(data) != 0 {
			c.t.Errorf("left in the cgroup: %s", data)
		}
	}
}

func TestGarbageExecutable(t *testing.T) {
	// The kernel refuses it only at the start, when create has long succeeded.
	c := newContainer(t, "/bin/garbage")
	c.up()
	c.ended()
	if errs := c.read("stderr"); !strings.Contains(errs, "exec format error") {
		t.Errorf("stderr %q", errs)
	}
}

func TestPidFileFailureCleansUp(t *testing.T) {
	c := newContainer(t, "sleep", "100")
	c.create("--pid-file", "/no/such/dir/pid").fails(1, "cannot write the pid file")
	c.checkGone()
}

func TestListAndEvents(t *testing.T) {
	c := newContainer(t, "sleep", "100")
	if out := c.do("list", "--quiet").ok(); out != "" {
		t.Errorf("list without containers: %q", out)
	}
	c.up()
	if out := c.do("list", "-q").ok(); out != c.id+"\n" {
		t.Errorf("list --quiet: %q", out)
	}
	if out := c.do("list").ok(); !strings.Contains(out, "STATUS") || !strings.Contains(out, "running") || !strings.Contains(out, c.bundle) {
		t.Errorf("list: %q", out)
	}
	var all []struct {
		ID, Status string
		Pid        int
	}
	if err := json.Unmarshal([]byte(c.do("list", "--format", "json").ok()), &all); err != nil || len(all) != 1 ||
		all[0].ID != c.id || all[0].Status != "running" || all[0].Pid != c.state().Pid {
		t.Errorf("list as json: %+v, %v", all, err)
	}
	if c.cgroup != "" {
		var stats struct {
			Type, ID string
			Data     struct {
				CPU  struct{ Usage struct{ Total uint64 } }
				Pids struct{ Current uint64 }
			}
		}
		if err := json.Unmarshal([]byte(c.do("events", "--stats", c.id).ok()), &stats); err != nil ||
			stats.Type != "stats" || stats.ID != c.id || stats.Data.CPU.Usage.Total == 0 {
			t.Errorf("events --stats: %+v, %v", stats, err)
		}
	}
	c.do("kill", c.id, "KILL").ok()
	c.ended()
	c.do("events", "--stats", c.id).fails(1, "container not running")
	if out := c.do("list").ok(); !strings.Contains(out, "stopped") {
		t.Errorf("list of one that has ended: %q", out)
	}
}

func TestIDsAndFlags(t *testing.T) {
	c := newContainer(t, "true")
	c.do("state", "../x").fails(1, "invalid container id")
	c.do("create", "a/b").fails(1, "invalid container id")
	c.do("--systemd-cgroup", "state", "x").fails(1, "--systemd-cgroup is not supported")
	c.do("--rootless=false", "state", "x").fails(1, "--rootless=false is not supported")
	c.do("--log-format=xml", "state", "x").fails(1, "--log-format")
	c.do("checkpoint", "--image-path", "x", c.id).fails(1, "checkpoint is not supported", "CRIU")
	c.do("restore", c.id).fails(1, "restore is not supported")
	c.do("events", "--stats", c.id).fails(1, "container does not exist")
	if out := c.do("--version").ok(); !strings.Contains(out, "spec: "+specs.Version) {
		t.Errorf("version: %q", out)
	}
}

func TestFeatures(t *testing.T) {
	c := newContainer(t, "true")
	var f features.Features
	if err := json.Unmarshal([]byte(c.do("features").ok()), &f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMax != specs.Version || f.Linux == nil || !*f.Linux.Seccomp.Enabled ||
		!slices.Contains(f.Linux.Namespaces, "cgroup") || !slices.Contains(f.MountOptions, "rro") {
		t.Errorf("features: %+v", f)
	}
}

func TestPs(t *testing.T) {
	c := newContainer(t, "sh", "-c", "sleep 100 & sleep 100; true")
	c.up()
	// A forked shell is a process before it is a sleep: the table says when both have come that far.
	waitFor(t, "the table of both sleeps", func() bool {
		out := c.do("ps", c.id).ok()
		return strings.Contains(out, "PID") && strings.Count(out, "sleep 100\n") == 2
	})
	var pids []int
	if err := json.Unmarshal([]byte(c.do("ps", "--format", "json", c.id).ok()), &pids); err != nil {
		t.Fatal(err)
	}
	if len(pids) != 3 {
		t.Errorf("pids %v, want three", pids)
	}
	if !slices.Contains(pids, c.state().Pid) {
		t.Errorf("pids %v lack the first process", pids)
	}
	c.do("ps", "--format", "xml", c.id).fails(1, "--format")
}

func TestPauseResume(t *testing.T) {
	c := newContainer(t, "sleep", "100")
	if c.cgroup == "" {
		c.up()
		c.do("pause", c.id).fails(1, "shares its cgroup")
		return
	}
	c.up()
	c.do("resume", c.id).fails(1, "not paused")
	c.do("pause", c.id).ok()
	if got := c.state().Status; got != "paused" {
		t.Errorf("status %q", got)
	}
	c.do("exec", c.id, "true").fails(255, "paused")
	c.do("resume", c.id).ok()
	if got := c.state().Status; got != specs.StateRunning {
		t.Errorf("status %q", got)
	}
	c.do("pause", c.id).ok()
	c.do("delete", "--force", c.id).ok()
	if data, err := os.ReadFile(filepath.Join(c.cgroup, "cgroup.freeze")); err != nil || string(data) != "0\n" {
		t.Errorf("cgroup.freeze after delete: %q, %v", data, err)
	}
}
