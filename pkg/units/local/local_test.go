package local_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/units/local"
)

var (
	_ engine.Units     = (*local.Client)(nil)
	_ engine.Freezer   = (*local.Client)(nil)
	_ engine.Limiter   = (*local.Client)(nil)
	_ engine.Activator = (*local.Client)(nil)
)

// serverEnv makes this process a server, which needs one for itself: its socket
// is descriptor 3, and it ends with its input.
const serverEnv = "MOSS_LOCAL_TEST_SERVER"

// groupsEnv has it use cgroups, with names that begin so.
const groupsEnv = "MOSS_LOCAL_TEST_GROUPS"

// launchEnv makes it a launcher whose process has ended before it: the file that
// gets that one's number.
const launchEnv = "MOSS_LOCAL_TEST_LAUNCH"

// forwardEnv has it answer the first connection at each of the sockets that it is passed, as one that
// passes connections on to a container.
const forwardEnv = "MOSS_LOCAL_TEST_FORWARD"

func TestMain(m *testing.M) {
	var err error
	switch path := os.Getenv(launchEnv); {
	case os.Getenv(forwardEnv) != "":
		err = forward(os.Args[1:])
	case path != "":
		err = launch(path)
	case os.Getenv(serverEnv) != "":
		err = serve()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// launch leaves a process that has ended, for others to reap.
func launch(path string) error {
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "exit 9"}, &os.ProcAttr{})
	if err != nil {
		return err
	}
	if err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Append(nil, p.Pid), 0o600)
}

// forward answers one connection with its arguments, and ends; one to the second socket
// stays open, and it with it.
func forward(args []string) error {
	if os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		return errors.New("the sockets are not for this process")
	}
	answer := strings.Join(append(args, os.Getenv("LISTEN_FDS")), " ")
	fds := []unix.PollFd{{Fd: 3, Events: unix.POLLIN}, {Fd: 4, Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, -1); err != nil {
		return err
	}
	for i, fd := range fds {
		if fd.Revents == 0 {
			continue
		}
		l, err := net.FileListener(os.NewFile(uintptr(fd.Fd), "socket"))
		if err != nil {
			return err
		}
		c, err := l.Accept()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(c, answer); err != nil {
			return err
		}
		if i == 1 {
			select {}
		}
		return c.Close()
	}
	return nil
}

func serve() error {
	os.Unsetenv(serverEnv)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := local.NewServer(ctx, slog.Default())
	if err != nil {
		return err
	}
	if prefix := os.Getenv(groupsEnv); prefix != "" {
		if err := s.UseGroups(ctx, prefix); err != nil {
			return err
		}
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		return err
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // the test has ended
		s.StopAll(ctx)
		cancel()
	}()
	return s.Serve(ctx, l.(*net.UnixListener))
}

type rig struct {
	c   *local.Client
	dir string
}

// open starts a server.
func open(t *testing.T) rig {
	t.Helper()
	return openWith(t)
}

// openWith starts a server with more in its environment.
func openWith(t *testing.T, env ...string) rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "units") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "units.sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer func() {
		if err := errors.Join(l.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	}()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), self)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = append(append(os.Environ(), serverEnv+"=1"), env...), os.Stderr, []*os.File{f}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c := local.NewClient(path, local.Forward{Program: moss.Launch{Args: []string{self}, Env: []string{forwardEnv + "=1"}}, Sockets: filepath.Join(dir, "entries")})
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	return rig{c, dir}
}

func (r rig) Units() engine.Units { return r.c }

func (r rig) Spec(t *testing.T, id moss.ContainerID, fails bool) moss.UnitSpec {
	t.Helper()
	dir := filepath.Join(r.dir, id.Short())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(dir, "pid")
	script := fmt.Sprintf("rm -f %[1]s/ctl; mkfifo %[1]s/ctl; sh -c 'read c < %[1]s/ctl; exit $c' & echo $! > %[2]s", dir, pidFile)
	if fails {
		script = "exit 3"
	}
	return moss.UnitSpec{
		ID: id, Description: "test " + t.Name(), StopTimeout: 20 * time.Second,
		Launch: moss.Launch{Args: []string{"/bin/sh", "-c", script}, PIDFile: pidFile},
	}
}

func (r rig) Exit(t *testing.T, id moss.ContainerID, code int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, id.Short(), "ctl"), fmt.Appendln(nil, code), 0); err != nil {
		t.Error(err)
	}
}

func (r rig) Stop(t *testing.T, id moss.ContainerID) {
	t.Helper()
	if err := r.c.Stop(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func (r rig) Disconnect(t *testing.T) {
	t.Helper()
	local.Disconnect(r.c)
}

func TestContract(t *testing.T) {
	porttest.Units(t, func(t *testing.T) porttest.UnitsRig { return open(t) })
}

// With a cgroup for each unit, they can be frozen, and are as they were otherwise.
func TestGroups(t *testing.T) {
	with := func(t *testing.T) porttest.UnitsRig {
		r := openWith(t, groupsEnv+"=moss-"+moss.NewHexID()[:8])
		why, err := r.c.Groups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if why != "" {
			t.Skip("no cgroup here may be written to: ", why)
		}
		return r
	}
	porttest.Freezer(t, with)
	t.Run("units", func(t *testing.T) { porttest.Units(t, with) })
}

// What a unit has left behind goes with it, in cgroups that it made itself too.
func TestGroupsRemoved(t *testing.T) {
	prefix := "moss-" + moss.NewHexID()[:8]
	r := openWith(t, groupsEnv+"="+prefix)
	if why, err := r.c.Groups(t.Context()); err != nil || why != "" {
		t.Skip("no cgroup here may be written to: ", why, err)
	}
	id := moss.ContainerID(moss.NewHexID())
	u := r.Spec(t, id, false)
	pidFile := filepath.Join(r.dir, "left")
	group := "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)"
	u.Launch.Args[2] = "setsid sleep 1000 >/dev/null 2>&1 & echo $! >" + pidFile + "; mkdir " + group + "/below; echo $! >" + group + "/below/cgroup.procs; " + u.Launch.Args[2]
	if _, err := r.c.Start(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	r.Exit(t, id, 0)
	ended(t, r, id)
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join("/proc", strings.TrimSpace(string(text)))
	at, err := os.ReadFile(filepath.Join(left, "cgroup"))
	if err != nil || !strings.Contains(string(at), prefix+"-"+id.Short()+".service/below") {
		t.Fatalf("what is left is in %s: %v", at, err)
	}
	if err := r.c.Collect(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(strings.TrimSpace(string(at)), "0::")
	if _, err := os.Stat(filepath.Join("/sys/fs/cgroup", filepath.Dir(path))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the cgroup is left: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(left, "cmdline")); err == nil && len(text) > 0 {
		t.Errorf("it is left: %q", text)
	}
}

// A process that has ended before its launcher is not lost.
func TestEarlyEnd(t *testing.T) {
	r := open(t)
	for i := range 20 {
		id := moss.ContainerID(moss.NewHexID())
		u := r.Spec(t, id, false)
		u.Launch.Args, u.Launch.Env = []string{"/proc/self/exe"}, []string{launchEnv + "=" + u.Launch.PIDFile}
		st, err := r.c.Start(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		if st.Phase == moss.UnitRunning {
			st = ended(t, r, id)
		}
		if !st.Exited || st.ExitCode != 9 || st.PID == 0 {
			t.Errorf("%d: %+v", i, st)
		}
		if err := r.c.Collect(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// ended waits for the end of a unit.
func ended(t *testing.T, r rig, id moss.ContainerID) (last moss.UnitStatus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_ = r.c.Watch(ctx, func(st moss.UnitStatus) { // ends with its context
		if st.Short == id.Short() && st.Phase == moss.UnitEnded {
			last = st
			cancel()
		}
	})
	return last
}

// Settle returns after the watch has told what had happened before.
func TestSettle(t *testing.T) {
	r, id := open(t), moss.ContainerID(moss.NewHexID())
	var told []moss.UnitStatus
	began := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.c.Watch(ctx, func(st moss.UnitStatus) { // ends with its context
			if len(told) == 0 {
				close(began)
			}
			told = append(told, st)
		})
	}()
	if _, err := r.c.Start(t.Context(), r.Spec(t, id, false)); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := errors.Join(r.c.Collect(t.Context(), id), r.c.Settle(t.Context())); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
	if last := told[len(told)-1]; last.Phase != moss.UnitGone || last.ExitCode != 137 {
		t.Errorf("told %+v", told)
	}
}

// What the user manager alone can give is refused, with the reason.
func TestRefused(t *testing.T) {
	r := open(t)
	for name, change := range map[string]func(*moss.UnitSpec){
		"memory": func(u *moss.UnitSpec) { u.Resources.Memory = 1 << 20 },
		"cpus":   func(u *moss.UnitSpec) { u.Resources.NanoCPUs = 1 },
		"pids":   func(u *moss.UnitSpec) { u.Resources.PidsLimit = 9 },
		"slice":  func(u *moss.UnitSpec) { u.Slice = "a.slice" },
	} {
		u := r.Spec(t, moss.ContainerID(moss.NewHexID()), false)
		change(&u)
		if _, err := r.c.Start(t.Context(), u); moss.ClassOf(err) != moss.NotImplemented {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.c.Freeze(t.Context(), moss.ContainerID(moss.NewHexID())); moss.ClassOf(err) != moss.NotImplemented {
		t.Errorf("freeze: %v", err)
	}
}

func TestActivator(t *testing.T) { porttest.Activator(t, open(t).c, porttest.FreePorts(t)) }

// Whenever somebody connects, the program is started with the sockets; the end of
// what it listens for is its own.
func TestEntrance(t *testing.T) {
	r, ports := open(t), porttest.FreePorts(t)
	id := moss.ContainerID(moss.NewHexID())
	h := moss.HeldPorts{ID: id, Name: "web", Listen: true}
	for i, p := range ports {
		h.Ports = append(h.Ports, moss.PortBinding{Port: moss.Port{Number: uint16(80 + i), Proto: moss.TCP}, HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: p})
	}
	if err := r.c.Hold(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	want := string(id) + " listen-fds 80 81 3"
	ask := func(port uint16) net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		got, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || strings.TrimSpace(got) != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
		return c
	}
	for range 3 { // it ends each time
		ask(ports[0]).Close()
	}
	c := ask(ports[1])
	defer c.Close()
	path := moss.EntrySocket(filepath.Join(r.dir, "entries"), id)
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	if err := r.c.Release(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%q, %v: the program goes on", got, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", path, err)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0])); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}
