package main_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/process"
)

func TestProcessProperties(t *testing.T) {
	umask := uint32(0o027)
	for _, test := range []struct {
		name   string
		script string
		change func(*specs.Spec)
		want   string
		ids    bool // needs more than one id
	}{
		{name: "hostname", script: "hostname", want: "box"},
		{name: "cwd", script: "pwd", change: func(s *specs.Spec) { s.Process.Cwd = "/tmp" }, want: "/tmp"},
		{name: "env", script: "echo $A", change: func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=1,2") }, want: "1,2"},
		{name: "user", script: "id -u; id -g; id -G", ids: true, change: func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 2000, AdditionalGids: []uint32{2000, 3000}}
		}, want: "1000\n2000\n2000 3000"},
		{name: "umask", script: "umask", change: func(s *specs.Spec) { s.Process.User.Umask = &umask }, want: "0027"},
		{name: "pid namespace", script: "echo $$", want: "1"},
		{name: "rlimit", script: "ulimit -n; ulimit -Hn", change: func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
		}, want: "100\n200"},
		{
			name: "read-only root", script: "touch /x 2>&1", change: func(s *specs.Spec) { s.Root.Readonly = true },
			want: "touch: /x: Read-only file system",
		},
		{name: "writable root", script: "touch /x && echo done", want: "done"},
		{name: "masked file", script: "cat /proc/timer_list | wc -c", want: "0"},
		{name: "read-only path", script: "echo x 2>/dev/null >/proc/sys/kernel/domainname || echo refused", want: "refused"},
		{name: "sysctl", script: "cat /proc/sys/net/ipv4/ping_group_range", change: func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"net.ipv4.ping_group_range": "0 0"}
		}, want: "0\t0"},
		{
			name: "no_new_privs", script: "grep NoNewPrivs /proc/self/status", change: func(s *specs.Spec) { s.Process.NoNewPrivileges = true },
			want: "NoNewPrivs:\t1",
		},
		{name: "capabilities", script: "grep CapBnd /proc/self/status", want: "CapBnd:\t00000000a80425fb"},
		{
			name: "no capabilities", script: "grep CapEff /proc/self/status", change: func(s *specs.Spec) { s.Process.Capabilities = &specs.LinuxCapabilities{} },
			want: "CapEff:\t0000000000000000",
		},
		{name: "cgroup namespace", script: "cat /proc/self/cgroup | grep 0::", want: "0::/"},
		{name: "devices", script: "test -c /dev/null && test -c /dev/urandom && echo x > /dev/null && echo fine", want: "fine"},
		{name: "mqueue and shm", script: "test -d /dev/mqueue && touch /dev/shm/x && echo fine", want: "fine"},
		{name: "own network", script: "ls /sys/class/net", want: "lo"},
		{name: "host network", script: "ls /sys/fs/cgroup/cgroup.procs; touch /sys/fs/cgroup/x 2>&1 | grep -c Read-only", change: func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace })
			for i := range s.Mounts {
				if s.Mounts[i].Type == "sysfs" {
					s.Mounts[i] = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "nosuid", "noexec", "nodev", "rro"}}
				}
			}
		}, want: "/sys/fs/cgroup/cgroup.procs\n1"},
		{name: "no descriptors leak", script: "ls /proc/1/fd", want: "0\n1\n2"},
		{name: "environment is clean", script: "env | grep -i -e moss -e libcontainer -e gomaxprocs || echo none", want: "none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.ids && !mapped(3000) {
				t.Skip("one id is mapped")
			}
			c := newContainer(t, "sh", "-c", test.script+"; true")
			if test.change != nil {
				test.change(c.spec)
			}
			t.Setenv("_MOSS_NOTE", "not for the container")
			if got := strings.TrimSpace(c.run().ok()); got != test.want {
				t.Errorf("%s: got %q, want %q\nlog: %s", test.script, got, test.want, c.read("log"))
			}
		})
	}
}

func TestCgroupOfItsOwn(t *testing.T) {
	c := newContainer(t, "sh", "-c", "grep 0:: /proc/self/cgroup; sleep 100")
	if c.cgroup == "" {
		t.Skip("cgroups cannot be made")
	}
	// The launcher's cgroup is a neighbour: the runtime makes and removes this one.
	path := "/" + c.id + "-below"
	c.spec.Linux.CgroupsPath = path
	c.up()
	waitFor(t, "the output", func() bool { return c.read("stdout") == "0::/\n" })
	dir := filepath.Join("/sys/fs/cgroup", path)
	pid := strconv.Itoa(c.state().Pid)
	if data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs")); err != nil || !strings.Contains(string(data), pid) {
		t.Errorf("cgroup.procs %q, %v lacks %s", data, err, pid)
	}
	c.do("pause", c.id).ok()
	c.do("resume", c.id).ok()
	c.do("delete", "--force", c.id).ok()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cgroup is left: %v", err)
	}
}

func TestSharedPIDNamespaceEndsWhole(t *testing.T) {
	c := newContainer(t, "sh", "-c", "sleep 100 & sleep 100; true")
	if c.cgroup == "" {
		t.Skip("cgroups cannot be made")
	}
	c.spec.Linux.Namespaces = slices.DeleteFunc(c.spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.PIDNamespace })
	c.spec.Mounts[0] = specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind"}}
	c.spec.Linux.MaskedPaths, c.spec.Linux.ReadonlyPaths = nil, nil
	c.up()
	c.do("kill", c.id, "KILL").ok()
	waitFor(t, "all processes to go", func() bool {
		data, err := os.ReadFile(filepath.Join(c.cgroup, "cgroup.procs"))
		return err == nil && len(data) == 0
	})
}

func TestSeccomp(t *testing.T) {
	for _, noNewPrivs := range []bool{false, true} {
		c := newContainer(t, "sh", "-c", "grep Seccomp: /proc/1/status; sleep 100")
		c.spec.Linux.Seccomp = dockerSeccomp(t, c.spec, false)
		c.spec.Process.NoNewPrivileges = noNewPrivs
		c.up()
		waitFor(t, "the output", func() bool { return c.read("stdout") == "Seccomp:\t2\n" })
		// Refused by the profile, not for want of a privilege.
		c.do("exec", c.id, "busybox", "unshare", "-U", "true").fails(1, "Operation not permitted")
		if got := c.do("exec", c.id, "grep", "Seccomp:", "/proc/self/status").ok(); got != "Seccomp:\t2\n" {
			t.Errorf("exec: %q", got)
		}
	}
}

func TestJoinsNetworkNamespace(t *testing.T) {
	// A namespace kept by a bind mount, as the engine keeps them.
	path := filepath.Join(os.Getenv(workEnv), "netns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	name := make(chan string)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			t.Error(err)
		}
		ns, err := os.Readlink("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		name <- ns
	}()
	want := <-name
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	c := newContainer(t, "readlink", "/proc/self/ns/net")
	c.spec.Linux.Namespaces[1].Path = path
	if got := strings.TrimSpace(c.run().ok()); got != want {
		t.Errorf("namespace %s, want %s", got, want)
	}
}

func TestOOMScore(t *testing.T) {
	c := newContainer(t, "cat", "/proc/self/oom_score_adj")
	score := 500
	c.spec.Process.OOMScoreAdj = &score
	if got := c.run().ok(); got != "500\n" {
		t.Errorf("score %q", got)
	}
	// What cannot be had does not stop the container.
	c = newContainer(t, "cat", "/proc/self/oom_score_adj")
	score = -1000
	c.spec.Process.OOMScoreAdj = &score
	c.run().ok()
}

func TestExec(t *testing.T) {
	c := newContainer(t, "sleep", "100")
	c.spec.Process.Env = append(c.spec.Process.Env, "BASE=yes")
	c.up()
	for _, test := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{c.id, "echo", "hi"}, 0, "hi\n"},
		{[]string{c.id, "sh", "-c", "exit 42"}, 42, ""},
		{[]string{c.id, "sh", "-c", "kill -TERM $$"}, 143, ""},
		{[]string{"--cwd", "/tmp", c.id, "pwd"}, 0, "/tmp\n"},
		{[]string{"--env", "A=1,2", "--env", "B=3", c.id, "sh", "-c", "echo $A $B $BASE"}, 0, "1,2 3 yes\n"},
		{[]string{c.id, "hostname"}, 0, "box\n"},
		{[]string{c.id, "ls", "/proc/self/fd/"}, 0, "0\n1\n2\n3\n"}, // 3 is ls's own
		{[]string{"--no-new-privs", c.id, "grep", "NoNewPrivs", "/proc/self/status"}, 0, "NoNewPrivs:\t1\n"},
		{[]string{"--cap", "CAP_SYS_ADMIN", c.id, "grep", "CapEff", "/proc/self/status"}, 0, "CapEff:\t00000000a82425fb\n"},
	} {
		r := c.do(append([]string{"exec"}, test.args...)...)
		if r.code != test.code || r.stdout != test.out {
			t.Errorf("exec %q: code %d, stdout %q, stderr %q; want %d, %q", test.args, r.code, r.stdout, r.stderr, test.code, test.out)
		}
	}
	if mapped(3000) {
		if got := c.do("exec", "--user", "1000:2000", "-g", "3000", c.id, "id", "-G").ok(); got != "2000 3000\n" {
			t.Errorf("groups %q", got)
		}
	}
	c.do("exec", c.id, "nope").fails(255, `exec: "nope": executable file not found in $PATH`)
	c.do("exec", c.id, "/bin/notexec").fails(255, `exec: "/bin/notexec": permission denied`)
	c.do("exec", c.id).fails(255, "no command is given")
	c.do("exec", "--user", "root", c.id, "true").fails(255, "must be a number")
	c.do("exec", "no-such", "true").fails(255, "container does not exist")

	cmd := c.command("exec", c.id, "cat")
	cmd.Stdin = strings.NewReader("both ways")
	if got := finish(t, cmd).ok(); got != "both ways" {
		t.Errorf("cat: %q", got)
	}
}

func TestExecProcessFileDetached(t *testing.T) {
	c := newContainer(t, "sleep", "100")
	c.up()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	// A reaper that does not reap keeps pid namespaces, and so containers, from ending.
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	file, pidFile := filepath.Join(filepath.Dir(c.bundle), "process.json"), filepath.Join(filepath.Dir(c.bundle), "exec.pid")
	data, err := json.Marshal(&specs.Process{Args: []string{"sh", "-c", "echo detached; exit 5"}, Cwd: "/", Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := c.command("exec", "--detach", "--process", file, "--pid-file", pidFile, c.id)
	out := c.output("execout")
	defer out.Close()
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	// The orphan is this process's child now, and its status is to be had.
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	if ws.ExitStatus() != 5 || c.read("execout") != "detached\n" {
		t.Errorf("status %d, output %q", ws.ExitStatus(), c.read("execout"))
	}
	c.do("exec", "--process", file, c.id, "true").fails(255, "use one of them")
}

// A container that ends while processes join it leaves none of them half-made: one
// that nobody waits for would keep its pid namespace, and so its first process.
func TestExecWhileItEnds(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	for range 15 {
		c := newContainer(t, "sleep", "100")
		c.up()
		pid := c.state().Pid
		var wg sync.WaitGroup
		joined := make(chan struct{}, 1)
		for range 4 {
			wg.Go(func() {
				for c.command("exec", c.id, "true").Run() == nil {
					select {
					case joined <- struct{}{}:
					default:
					}
				}
			})
		}
		select {
		case <-joined:
		case <-time.After(time.Minute):
			t.Error("nothing joins it")
		}
		c.do("kill", c.id, "KILL").ok()
		wg.Wait()
		c.ended()
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil { // create left it to this process
			t.Fatal(err)
		}
		if left, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
			t.Fatalf("something is left: %d, %v", left, err)
		}
		c.do("delete", c.id).ok()
	}
}

// Another runtime's exec that fails is followed by nobody; of one that succeeds its
// process is left, to who called.
func TestAttend(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	dir := t.TempDir()
	pidFile, other, gate := filepath.Join(dir, "pid"), filepath.Join(dir, "runtime"), filepath.Join(dir, "gate")
	if err := unix.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	// The exec's process outlasts the runtime: a shell takes the status of a child that
	// ends before it does.
	const script = `#!/bin/sh
sleep 1000 >/dev/null 2>&1 &
case $1 in
fails) exit 7 ;;
dies) kill -9 $$ ;;
silent) exit 0 ;;
esac
kill $!
sh -c 'read -r _ <"$0"; exit 5' "${0%/*}/gate" >/dev/null 2>&1 &
echo $! >"$3"
`
	if err := os.WriteFile(other, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(how string) result {
		return finish(t, exec.Command(os.Getenv(binaryEnv), "attend", other, how, "--pid-file", pidFile))
	}
	none := func() {
		t.Helper()
		if left, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
			t.Fatalf("something is left: %d, %v", left, err)
		}
	}
	run("fails").fails(7)
	none()
	run("dies").fails(1, other+": signal: killed")
	none()
	run("silent").fails(1, "the runtime wrote no pid")
	none()
	run("well").ok()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if _, err := open.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || ws.ExitStatus() != 5 {
		t.Errorf("exit status %d, want 5: %v", ws.ExitStatus(), err)
	}
	for { // what still went on when the exec had succeeded
		if _, err := unix.Wait4(-1, nil, 0, nil); errors.Is(err, unix.ECHILD) {
			break
		}
	}
}

// listenConsole returns a console socket and a function that waits for the
// terminal's master.
func listenConsole(t *testing.T) (string, func() *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), strings.Repeat("long", 25), "sock") // longer than a socket address
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	return path, func() *os.File {
		t.Helper()
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		name, oob := make([]byte, 4096), make([]byte, 64)
		_, n, _, _, err := conn.ReadMsgUnix(name, oob)
		if err != nil {
			t.Fatal(err)
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) != 1 {
			t.Fatalf("%d messages, %v", len(messages), err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("%d descriptors, %v", len(fds), err)
		}
		return os.NewFile(uintptr(fds[0]), "master")
	}
}

func readLine(t *testing.T, f *os.File) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := f.Read(b); err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
		if b[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r")
		}
		line = append(line, b[0])
	}
}

func TestConsole(t *testing.T) {
	c := newContainer(t, "sh", "-c", "tty; stty size; read x; echo got $x; sleep 100")
	c.spec.Process.Terminal = true
	c.spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 77}
	path, master := listenConsole(t)
	c.create("--console-socket", path).ok()
	m := master()
	defer m.Close()
	c.do("start", c.id).ok()
	if got := readLine(t, m); !strings.HasPrefix(got, "/dev/") {
		t.Errorf("tty: %q", got)
	}
	if got := readLine(t, m); got != "33 77" {
		t.Errorf("size %q", got)
	}
	if _, err := m.WriteString("word\n"); err != nil {
		t.Fatal(err)
	}
	readLine(t, m) // the echo
	if got := readLine(t, m); got != "got word" {
		t.Errorf("line %q", got)
	}

	path, master = listenConsole(t)
	c.do("exec", "--tty", "--detach", "--console-socket", path, c.id, "sh", "-c", "tty && echo fine").ok()
	m2 := master()
	defer m2.Close()
	if got := readLine(t, m2); !strings.HasPrefix(got, "/dev/pts/") {
		t.Errorf("exec tty: %q", got)
	}
	if got := readLine(t, m2); got != "fine" {
		t.Errorf("exec: %q", got)
	}
	c.do("exec", "--tty", c.id, "true").fails(255, "stdin is none")
	c.do("exec", "--console-socket", path, c.id, "true").fails(255, "wants no terminal")
}

// The last few keys of the quota, which all rigs share, are left to those that start containers meanwhile.
func TestUsedUpKeysDoNotStopAContainer(t *testing.T) {
	filled := make(chan error)
	done := make(chan struct{})
	defer close(done)
	go func() {
		// The keys hang on a thread that ends with this goroutine.
		runtime.LockOSThread()
		n := 0
		fill := func() (err error) {
			for more := 8; more > 0 && n < 2000 && err == nil; n++ {
				_, err = unix.AddKey("user", "moss-test-"+strconv.Itoa(n), []byte("x"), unix.KEY_SPEC_THREAD_KEYRING)
				if process.KeyringsUsedUp() {
					more--
				}
			}
			return err
		}
		filled <- fill()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for { // the kernel forgets keys of those that have ended some time later
			select {
			case <-done:
				return
			case <-tick.C:
				if !process.KeyringsUsedUp() {
					_ = fill()
				}
			}
		}
	}()
	if err := <-filled; err != nil && !errors.Is(err, unix.EDQUOT) {
		t.Skipf("cannot use the key quota up: %v", err)
	}
	if !process.KeyringsUsedUp() {
		t.Skip("the key quota is too large to use up")
	}
	c := newContainer(t, "echo", "fine")
	if got := c.run().ok(); got != "fine\n" {
		t.Errorf("output %q", got)
	}
	if log := c.read("log"); !strings.Contains(log, "keys are used up") {
		t.Errorf("log %q", log)
	}
}
