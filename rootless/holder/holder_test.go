package holder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/msg"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/userns"
)

// unprivileged skips for root, who is refused on purpose; for nobody else.
func unprivileged(t *testing.T) {
	t.Helper()
	if errors.Is(userns.CheckNotRoot(), userns.ErrRoot) {
		t.Skip("needs an unprivileged user: the holder refuses root")
	}
}

func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "moss")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "r")
}

// TestRefusedEarly: root, and for others a broken configuration, are refused
// before anything is made.
func TestRefusedEarly(t *testing.T) {
	dir := stateDir(t)
	err := Run(t.Context(), Config{StateDir: dir, NetworkDriver: "carrier-pigeon"})
	if err == nil || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("an unknown driver: %v", err)
	}
	if os.Geteuid() == 0 {
		err := Run(t.Context(), Config{StateDir: dir})
		if errors.Is(userns.CheckNotRoot(), userns.ErrRoot) != errors.Is(err, userns.ErrRoot) {
			t.Errorf("as root: %v", err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the state directory was made for nothing")
	}
}

// installed lists the drivers this machine can try.
func installed(t *testing.T) []string {
	m := probe(t.Context())
	d := []string{names.DriverAuto, names.DriverGvisor, names.DriverNone}
	if m.Slirp != "" {
		d = append(d, names.DriverSlirp)
	}
	if m.Pasta != "" && m.Routed {
		d = append(d, names.DriverPasta)
	}
	return d
}

func TestHolder(t *testing.T) {
	unprivileged(t)
	for _, d := range installed(t) {
		t.Run(d, func(t *testing.T) {
			// Two Gs: to the host's loopback is the one way out every machine has.
			r := start(t, Config{StateDir: stateDir(t), NetworkDriver: d, HostLoopback: true})
			info := r.info
			if info.ChildPID == 0 || info.StateDir != r.state || d != names.DriverAuto && info.NetworkDriver != d {
				t.Errorf("info %+v", info)
			}
			talk := r.talk(t)
			t.Run("join", func(t *testing.T) { testJoin(t, r) })
			t.Run("ports", func(t *testing.T) { testPorts(t, r, talk) })
			t.Run("udp", func(t *testing.T) { testUDP(t, r, talk) })
			if info.NetworkDriver != names.DriverNone {
				t.Run("out", func(t *testing.T) { testOut(t, r, talk) })
			}
			testStop(t, r)
		})
	}
}

func testJoin(t *testing.T, r *running) {
	mnt := t.TempDir()
	cmd := command(t, "look", userns.JoinEnv+"="+r.state, "MOSS_TEST_MOUNT="+mnt)
	cmd.Dir = mnt
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, exitText(err))
	}
	var s seen
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	netns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	user, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case !s.Joined, s.EUID != 0, s.UserNS == user:
		t.Errorf("not joined: %+v", s)
	case s.OuterUID != uint32(os.Geteuid()):
		t.Errorf("outer uid %d, want %d", s.OuterUID, os.Geteuid())
	case s.IDs < 2:
		t.Errorf("%d ids mapped", s.IDs)
	case s.NetNS != netns:
		t.Errorf("network namespace %s, want the host's %s", s.NetNS, netns)
	case s.JoinEnv, s.CJoinEnv:
		t.Errorf("%s is still set (Go %v, child %v)", userns.JoinEnv, s.JoinEnv, s.CJoinEnv)
	case s.Cwd != mnt:
		t.Errorf("working directory %s, want %s", s.Cwd, mnt)
	case s.Mount != "", s.Unmount != "":
		t.Errorf("mount: %s%s", s.Mount, s.Unmount)
	case !strings.Contains(s.ReexecSaid, `"Joined":false`):
		t.Errorf("re-exec said %q", s.ReexecSaid)
	case s.Err != "":
		t.Error(s.Err)
	}
	if s.CgroupFS != isCgroup2("/sys/fs/cgroup") {
		t.Errorf("the host's cgroup tree is not where it was")
	}
}

func isCgroup2(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

func exitText(err error) string {
	if ee := (*exec.ExitError)(nil); errors.As(err, &ee) {
		return string(ee.Stderr)
	}
	return ""
}

// freePort is one nobody listens on just now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return uint16(ln.Addr().(*net.TCPAddr).Port)
}

func testPorts(t *testing.T, r *running, talk func(string) string) {
	ctx := t.Context()
	ports := rootless.NewPorts(r.state)
	inner, err := strconv.ParseUint(talk("listen"), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	child := r.childIP()
	host := netip.MustParseAddr("127.0.0.1")
	spec := rootless.PortSpec{Proto: "tcp", HostIP: host, HostPort: freePort(t), ChildIP: child, ChildPort: uint16(inner)}
	id, err := ports.Add(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	var many sync.WaitGroup
	for range 100 {
		many.Go(func() {
			if got, err := ask(spec.HostPort); err != nil || !strings.Contains(got, ":") {
				t.Errorf("the published port said %q, %v", got, err)
			}
		})
	}
	many.Wait()
	list, err := ports.List(ctx)
	if err != nil || len(list) != 1 || list[0] != (rootless.Port{ID: id, Spec: spec}) {
		t.Errorf("list %+v, %v", list, err)
	}

	// A client elsewhere keeps its address. The owner of the namespaces connects, as the holder does.
	pool := newSocketPool(filepath.Join(r.state, ".bp.sock"), slog.New(slog.DiscardHandler))
	seen := func(client netip.AddrPort) netip.AddrPort {
		t.Helper()
		c, err := pool.dial(netip.AddrPortFrom(child, uint16(inner)), client)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := netip.ParseAddrPort(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for n := range 2 * socketBatch {
		client := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.77"), uint16(20123+n)) // nobody is given these
		if got := seen(client); got != client {
			t.Errorf("the server saw %s, want %s", got, client)
		}
	}
	// Its port is the server's own, which has it at all addresses.
	client := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.78"), uint16(inner))
	if got := seen(client); got.Addr() != client.Addr() || got.Port() == client.Port() {
		t.Errorf("the server saw %s, want another port of %s", got, client.Addr())
	}
	if _, err := pool.ask(msg.Request{Type: "nonsense"}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a request that there is not: %v", err)
	}

	t.Run("refused", func(t *testing.T) { testRefused(t, ports, spec) })
	if err := ports.Remove(ctx, id); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(spec.HostPort)))); err == nil {
		c.Close()
		t.Error("an unpublished port still listens")
	}
	if err := ports.Remove(ctx, id); !errors.Is(err, rootless.ErrPortUnknown) {
		t.Errorf("unpublished twice: %v", err)
	}
}

func testRefused(t *testing.T, ports *rootless.Ports, taken rootless.PortSpec) {
	want := func(s rootless.PortSpec, reason error) {
		t.Helper()
		id, err := ports.Add(t.Context(), s)
		if !errors.Is(err, reason) {
			t.Errorf("%s: got %d, %v, want %v", s, id, err, reason)
		}
	}
	want(taken, rootless.ErrPortInUse)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := taken
	s.HostPort = uint16(ln.Addr().(*net.TCPAddr).Port)
	want(s, rootless.ErrPortInUse)
	s.HostPort, s.HostIP = freePort(t), netip.MustParseAddr("203.0.113.9")
	want(s, rootless.ErrPortAddress)
	s.Proto = "sctp"
	want(s, rootless.ErrPortProto)
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 81 {
			s = taken
			s.HostPort = 81
			want(s, rootless.ErrPortPrivileged)
		}
	}
}

func ask(port uint16) (string, error) {
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

// childIP is an address to reach servers in the namespace itself at.
func (r *running) childIP() netip.Addr {
	if r.info.ChildIP.IsValid() {
		return r.info.ChildIP
	}
	return netip.MustParseAddr("127.0.0.1")
}

func testUDP(t *testing.T, r *running, talk func(string) string) {
	inner, err := strconv.ParseUint(talk("listen-udp"), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	ports := rootless.NewPorts(r.state)
	spec := rootless.PortSpec{
		Proto: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: freePort(t), ChildIP: r.childIP(), ChildPort: uint16(inner),
	}
	id, err := ports.Add(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", spec.HostPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "ping" {
		t.Errorf("echo gave %q, %v", buf[:n], err)
	}
	if err := ports.Remove(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// testOut: traffic from the detached namespace reaches a server on the host.
func testOut(t *testing.T, r *running, talk func(string) string) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "the host")
			c.Close()
		}
	}()
	addr := netip.AddrPortFrom(r.info.Gateway, uint16(ln.Addr().(*net.TCPAddr).Port))
	if got := talk("dial " + addr.String()); got != "the host <nil>" {
		t.Errorf("dialing %s gave %q", addr, got)
	}
}

// testStop: SIGTERM ends everything, in order, and nothing stays.
func testStop(t *testing.T, r *running) {
	t.Helper()
	if err := r.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := r.end(t); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if _, err := os.Stat(r.state); err == nil {
		t.Errorf("%s is still there", r.state)
	}
	gone(t, r)
	if _, err := rootless.ReadInfo(r.state); !errors.Is(err, rootless.ErrNotRunning) {
		t.Errorf("info of a holder that has ended: %v", err)
	}
	cmd := command(t, "look", userns.JoinEnv+"="+r.state)
	if _, err := cmd.Output(); err == nil || !strings.Contains(exitText(err), "the holder does not run") ||
		strings.Count(exitText(err), "\n") != 1 {
		t.Errorf("joining a holder that has ended: %v, %q", err, exitText(err))
	}
}

// gone waits for the end of every process that the state directory is named to,
// in its arguments or its environment.
func gone(t *testing.T, r *running) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := mentions(t, r.state)
		if len(left) == 0 {
			return
		}
		select {
		case <-deadline:
			t.Errorf("processes left: %q", left)
			return
		case <-tick.C:
		}
	}
}

func mentions(t *testing.T, what string) (found []string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		args, _ := os.ReadFile(d + "/cmdline") // others' or gone: empty
		env, _ := os.ReadFile(d + "/environ")
		if strings.HasSuffix(d, "/"+strconv.Itoa(os.Getpid())) || bytes.Contains(env, []byte(userns.JoinEnv+"=")) ||
			bytes.Contains(env, []byte(roleEnv+"=inside")) {
			continue // ourselves, and those that joined
		}
		if bytes.Contains(args, []byte(what)) || bytes.Contains(env, []byte(what)) {
			found = append(found, filepath.Base(d)+" "+string(args))
		}
	}
	return found
}

// TestKilled: whichever of its processes is killed, the holder ends and one in
// the same place starts.
func TestKilled(t *testing.T) {
	unprivileged(t)
	cfg := Config{StateDir: stateDir(t)}
	whom := []string{"parent", "child", "payload"}
	if probe(t.Context()).Slirp != "" {
		whom = append(whom, names.DriverSlirp)
	}
	for _, who := range whom {
		t.Run(who, func(t *testing.T) {
			r := start(t, cfg)
			pid := map[string]int{"parent": r.cmd.Process.Pid, "child": r.info.ChildPID}[who]
			if who == "payload" {
				pid = childOf(t, r.info.ChildPID, payloadArg)
			}
			if who == names.DriverSlirp {
				pid = childOf(t, r.cmd.Process.Pid, r.state)
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := r.end(t); err == nil {
				t.Error("killed, and no error")
			}
			gone(t, r)
		})
	}
	testStop(t, start(t, cfg))
}

// childOf waits for the child of a process that has this in its arguments.
func childOf(t *testing.T, parent int, arg string) int {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, _ := os.ReadFile(f) // the thread may have ended
			for s := range strings.FieldsSeq(string(b)) {
				if cmd, _ := os.ReadFile("/proc/" + s + "/cmdline"); bytes.Contains(cmd, []byte(arg)) {
					pid, err := strconv.Atoi(s)
					if err != nil {
						t.Fatal(err)
					}
					return pid
				}
			}
		}
		select {
		case <-deadline:
			t.Fatalf("no child with %q", arg)
		case <-tick.C:
		}
	}
}

// TestChildDiesEarly: rootlesskit waits for a child that is no more; the holder
// does not.
func TestChildDiesEarly(t *testing.T) {
	unprivileged(t)
	cfg := Config{StateDir: stateDir(t)}
	for _, point := range []string{"lock", "netns", ".bp.sock"} {
		t.Run(point, func(t *testing.T) {
			js, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			cmd := command(t, "holder", "MOSS_TEST_CONFIG="+string(js))
			cmd.WaitDelay = 5 * time.Second
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := &running{cmd: cmd, state: cfg.StateDir, ended: make(chan error, 1)}
			go func() { r.ended <- cmd.Wait() }()
			appears(t, filepath.Join(cfg.StateDir, point))
			if err := unix.Kill(childOf(t, cmd.Process.Pid, "/proc/self/exe"), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if err := r.end(t); err == nil {
				t.Error("no error")
			}
			gone(t, r)
			if _, err := os.Stat(r.state); err == nil {
				t.Error("the state directory is still there")
			}
		})
	}
}

// TestStoppedEarly: SIGTERM at any point of the set-up is an orderly end.
func TestStoppedEarly(t *testing.T) {
	unprivileged(t)
	cfg := Config{StateDir: stateDir(t)}
	for _, point := range []string{"lock", ".bp-ready.pipe", "netns", ".bp.sock", rootless.ChildPIDFile, rootless.InfoFile} {
		t.Run(point, func(t *testing.T) {
			js, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			cmd := command(t, "holder", "MOSS_TEST_CONFIG="+string(js))
			cmd.WaitDelay = 5 * time.Second
			var log safeBuilder
			cmd.Stderr = &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			r := &running{cmd: cmd, state: cfg.StateDir, ended: make(chan error, 1)}
			appears(t, filepath.Join(cfg.StateDir, point))
			if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			go func() { r.ended <- cmd.Wait() }()
			if err := r.end(t); err != nil {
				t.Errorf("%v\n%s", err, log.String())
			}
			gone(t, r)
		})
	}
	testStop(t, start(t, cfg))
}

func appears(t *testing.T, path string) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(path); err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s does not appear", path)
		case <-tick.C:
		}
	}
}

// TestSecondHolder: the state directory is one holder's.
func TestSecondHolder(t *testing.T) {
	unprivileged(t)
	cfg := Config{StateDir: stateDir(t), NetworkDriver: names.DriverNone}
	r := start(t, cfg)
	js, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	out, err := command(t, "holder", "MOSS_TEST_CONFIG="+string(js)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another") {
		t.Errorf("a second holder: %v, %s", err, out)
	}
	if err := rootless.NewPorts(r.state).Ping(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
	testStop(t, r)
}

// TestStaleJoin: a pid that is not the holder's is told, not joined.
func TestStaleJoin(t *testing.T) {
	dir := t.TempDir()
	for name, pid := range map[string]string{
		"our own namespace": strconv.Itoa(os.Getpid()), "nobody": "4194304", "init": "1", "no number": "x",
	} {
		if err := os.WriteFile(filepath.Join(dir, rootless.ChildPIDFile), []byte(pid), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := command(t, "look", userns.JoinEnv+"="+dir).Output()
		text := exitText(err)
		if err == nil || !strings.HasPrefix(text, "cannot join the namespaces of "+dir) || strings.Count(text, "\n") != 1 {
			t.Errorf("%s: %v, %q", name, err, text)
		}
	}
	_, err := command(t, "look", userns.JoinEnv+"=relative").Output()
	if err == nil || !strings.Contains(exitText(err), "absolute") {
		t.Errorf("relative: %v, %q", err, exitText(err))
	}
}
