package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/tests/busybox"
)

// container is one bundle and its life under the runtime being tested.
type container struct {
	t      testing.TB
	id     string
	root   string // state directory
	bundle string
	cgroup string // directory of its own cgroup, "" if none can be had
	spec   *specs.Spec
	debug  bool // log all there is
	peers  bool // other runtimes use it too: how they leave the cgroup is theirs
}

// newContainer makes a bundle of busybox with docker's usual settings; change
// c.spec before the first command. The container is deleted with the test.
func newContainer(t testing.TB, args ...string) *container {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv(workEnv), "c")
	if err != nil {
		t.Fatal(err)
	}
	c := &container{t: t, id: filepath.Base(dir), root: filepath.Join(dir, "root"), bundle: filepath.Join(dir, "bundle")}
	makeRootfs(t, filepath.Join(c.bundle, "rootfs"))
	c.spec = defaultSpec(args)
	if delegated {
		c.cgroup = filepath.Join("/sys/fs/cgroup", c.id)
		if err := os.Mkdir(c.cgroup, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if out, err := c.command("delete", "--force", c.id).CombinedOutput(); err != nil {
			t.Errorf("delete --force: %v: %s", err, out)
		}
		c.checkClean()
	})
	return c
}

// checkClean fails the test if anything of the container is left.
func (c *container) checkClean() {
	if left, err := os.ReadDir(c.root); err == nil && len(left) > 0 {
		c.t.Errorf("left in the state directory: %v", left)
	}
	if c.cgroup == "" || c.peers {
		return
	}
	// The runtime made nothing in the cgroup, so a plain rmdir is enough, as
	// soon as the last process is quite gone.
	waitFor(c.t, "an empty cgroup", func() bool { return syscall.Rmdir(c.cgroup) == nil })
}

func (c *container) writeSpec() {
	c.t.Helper()
	data, err := json.Marshal(c.spec)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.bundle, "config.json"), data, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// command prepares a run of the runtime in the test's own cgroup.
func (c *container) command(args ...string) *exec.Cmd {
	flags := []string{"--root", c.root, "--log", filepath.Join(filepath.Dir(c.bundle), "log"), "--log-format", "json"}
	if c.debug {
		flags = append(flags, "--debug")
	}
	return exec.Command(os.Getenv(binaryEnv), append(flags, args...)...)
}

// launch prepares create or run, which a manager would start in the
// container's cgroup.
func (c *container) launch(verb string, args ...string) *exec.Cmd {
	c.t.Helper()
	c.writeSpec()
	cmd := c.command(append(append([]string{verb, "--bundle", c.bundle}, args...), c.id)...)
	if c.cgroup != "" {
		dir, err := os.Open(c.cgroup)
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(func() { dir.Close() })
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	return cmd
}

// run runs the whole container in the foreground.
func (c *container) run() result { c.t.Helper(); return finish(c.t, c.launch("run")) }

// create creates the container with its output in files, as a unit has it.
func (c *container) create(args ...string) result {
	c.t.Helper()
	cmd := c.launch("create", args...)
	out := c.output("stdout")
	errs := c.output("stderr")
	cmd.Stdout, cmd.Stderr = out, errs
	logged := len(c.read("log"))
	err := cmd.Run()
	out.Close()
	errs.Close()
	return result{c.t, exitCode(c.t, err), c.read("stdout"), c.read("stderr") + c.said(logged)}
}

func (c *container) output(name string) *os.File {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(filepath.Dir(c.bundle), name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		c.t.Fatal(err)
	}
	return f
}

// read returns what is in a file beside the bundle: stdout, stderr, log.
func (c *container) read(name string) string {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(c.bundle), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	return string(data)
}

// do runs any other command.
func (c *container) do(args ...string) result {
	c.t.Helper()
	logged := len(c.read("log"))
	r := finish(c.t, c.command(args...))
	r.stderr += c.said(logged)
	return r
}

// said returns the error messages in the log from an offset on: where there
// is a log, errors go there alone.
func (c *container) said(from int) string {
	var out strings.Builder
	for line := range strings.Lines(c.read("log")[from:]) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			c.t.Errorf("not a line of a JSON log: %q", line)
		}
		if entry.Level == "error" {
			fmt.Fprintln(&out, entry.Msg)
		}
	}
	return out.String()
}

// up creates and starts the container.
func (c *container) up() {
	c.t.Helper()
	c.create().ok()
	c.do("start", c.id).ok()
}

type state struct {
	specs.State
	Rootfs  string `json:"rootfs"`
	Created string `json:"created"`
}

func (c *container) state() state {
	c.t.Helper()
	var s state
	if err := json.Unmarshal([]byte(c.do("state", c.id).ok()), &s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

type result struct {
	t              testing.TB
	code           int
	stdout, stderr string
}

func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return result{t, exitCode(t, err), out.String(), errs.String()}
}

func exitCode(t testing.TB, err error) int {
	t.Helper()
	code, err := exitCodeOf(err)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// ok fails the test unless the command succeeded, and returns its output.
func (r result) ok() string {
	r.t.Helper()
	if r.code != 0 {
		r.t.Fatalf("exit code %d, want 0\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// fails fails the test unless the command failed with code and these words.
func (r result) fails(code int, words ...string) {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			r.t.Fatalf("stderr %q does not say %q", r.stderr, w)
		}
	}
}

func makeRootfs(t testing.TB, dir string) {
	t.Helper()
	for _, d := range []string{"bin", "dev", "proc", "sys", "tmp", "etc", "run", "home"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
	path, err := busybox.Find()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq("sh true false cat echo id ls sleep grep hostname mount touch kill printenv pwd stty tty readlink test ip env nproc") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "bin/notexec": "no\n", "bin/garbage": "\x01\x02"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "bin/garbage"), 0o755); err != nil {
		t.Fatal(err)
	}
}

var dockerCaps = strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FSETID CAP_FOWNER CAP_MKNOD CAP_NET_RAW CAP_SETGID " +
	"CAP_SETUID CAP_SETFCAP CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_SYS_CHROOT CAP_KILL CAP_AUDIT_WRITE")

func defaultSpec(args []string) *specs.Spec {
	score := 0
	devpts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if mapped(5) {
		devpts = append(devpts, "gid=5")
	}
	return &specs.Spec{
		Version:  specs.Version,
		Hostname: "box",
		Root:     &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args:         args,
			Cwd:          "/",
			Env:          []string{"PATH=/usr/bin:/bin", "HOME=/"},
			OOMScoreAdj:  &score,
			Capabilities: &specs.LinuxCapabilities{Bounding: dockerCaps, Effective: dockerCaps, Permitted: dockerCaps},
		},
		Annotations: map[string]string{"org.example.key": "value"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: devpts},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=67108864"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.CgroupNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/sys"},
		},
	}
}

// mapped tells whether id exists in this user namespace.
func mapped(id uint64) bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		var first, outside, count uint64
		if n, _ := fmt.Sscan(line, &first, &outside, &count); n == 3 && id >= first && id < first+count {
			return true
		}
	}
	return false
}
