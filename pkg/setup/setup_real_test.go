package setup_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/sd"
	"github.com/moss-containers/moss/pkg/setup"
	"github.com/moss-containers/moss/pkg/units"
	"github.com/moss-containers/moss/tests/turn"
)

const prefix = "moss-setuptest"

// TestMain lets this program stand in for mossd and the holder: they tell the
// manager that they are ready, and the daemon writes down what it hears of units.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "mossd" {
		if err := turn.Take(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if err := standIn(os.Getenv("SETUP_TEST_LOG"), slices.Contains(os.Args, "rootless")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func standIn(log string, holder bool) error {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	who := "daemon"
	if holder {
		who = "holder"
	}
	say := func(format string, args ...any) { fmt.Fprintf(f, who+" "+format+"\n", args...) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	n, err := sd.NewNotifier()
	if err != nil {
		return err
	}
	if holder {
		say("up")
		if err := n.Ready("holds"); err != nil {
			return err
		}
		<-ctx.Done()
		say("down")
		return nil
	}
	m, err := units.New(ctx, units.Options{Prefix: prefix})
	if err != nil {
		return err
	}
	all, err := m.List(ctx)
	if err != nil {
		return err
	}
	for _, st := range all { // as the engine does at its start
		say("found %s %s", st.Short, st.Phase)
		if st.Phase == moss.UnitEnded {
			if err := m.Collect(ctx, moss.ContainerID(st.Short)); err != nil {
				return err
			}
		}
	}
	in, err := sd.Inherit()
	if err != nil {
		return err
	}
	for _, l := range in.Listeners(prefix + ".socket") {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintln(c, "hello")
				c.Close()
			}
		}()
	}
	say("up")
	if err := n.Ready("serves"); err != nil {
		return err
	}
	watching, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() {
		if err := m.Settle(watching); err != nil {
			say("cannot settle: %v", err)
		}
		cancel()
	})
	_ = m.Watch(watching, func(st moss.UnitStatus) { // ends with watching
		say("%s %s exited=%v code=%d", st.Short, st.Phase, st.Exited, st.ExitCode)
	})
	say("down")
	return nil
}

type bench struct {
	*testing.T
	m   *units.Manager
	o   setup.Options
	log string
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")); err != nil || os.Geteuid() == 0 {
		t.Skipf("no user manager here: %v", err)
	}
	m, err := units.New(t.Context(), units.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, m: m, dir: t.TempDir()}
	b.log = filepath.Join(b.dir, "log")
	for _, name := range []string{"mossd", "moss-rootless", "moss-runtime"} {
		if err := os.Symlink(exe, filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	b.o = setup.Options{Prefix: prefix, BinDir: b.dir, Runtime: true, Env: map[string]string{"SETUP_TEST_LOG": b.log}}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := setup.Uninstall(ctx, m, m, b.o); err != nil {
			t.Error(err)
		}
		out, err := exec.CommandContext(ctx, "systemctl", "--user", "list-units", "--all", "--no-legend", prefix+"*").Output()
		if err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("left over: %s %v", out, err)
		}
		left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "systemd", "user", "*", prefix+"*"))
		if err != nil || len(left) > 0 {
			t.Errorf("left over: %v %v", left, err)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := setup.Install(t.Context(), m, b.o); err != nil {
		t.Fatal(err)
	}
	return b
}

// connect speaks to the daemon through the socket, which starts it.
func (b *bench) connect() {
	b.Helper()
	d := net.Dialer{Timeout: time.Minute}
	c, err := d.DialContext(b.Context(), "unix", filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), prefix, "moss.sock"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 6)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "hello\n" {
		b.Fatalf("the daemon says %q, %v", buf[:n], err)
	}
}

// container starts a unit whose process ends cleanly, with code 7, a moment after SIGTERM.
func (b *bench) container() moss.ContainerID {
	b.Helper()
	id := moss.ContainerID(moss.NewHexID())
	pid := filepath.Join(b.dir, id.Short())
	// It is there once it has its trap.
	script := "sh -c 'trap \"sleep 0.3; exit 7\" TERM; : >" + pid + ".up; while :; do sleep 0.05; done' & while ! [ -e " + pid + ".up ]; do sleep 0.01; done; echo $! >" + pid
	if _, err := b.m.Start(b.Context(), moss.UnitSpec{
		ID: id, StopTimeout: 10 * time.Second,
		Launch: moss.Launch{Args: []string{"/bin/sh", "-c", script}, PIDFile: pid},
	}); err != nil {
		b.Fatal(err)
	}
	return id
}

func (b *bench) systemctl(args ...string) {
	b.Helper()
	if out, err := exec.CommandContext(b.Context(), "systemctl", append([]string{"--user"}, args...)...).CombinedOutput(); err != nil {
		b.Errorf("systemctl %v: %v: %s", args, err, out)
	}
}

func (b *bench) lines() []string {
	b.Helper()
	text, err := os.ReadFile(b.log)
	if err != nil {
		b.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// inOrder waits until the log has the lines, in that order.
func (b *bench) inOrder(want ...string) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(time.Minute)
	for {
		rest := want
		for _, l := range b.lines() {
			if len(rest) > 0 && l == rest[0] {
				rest = rest[1:]
			}
		}
		if len(rest) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			b.Fatalf("the log never had, in order, %q; it has:\n%s", want, strings.Join(b.lines(), "\n"))
		}
	}
}

func (b *bench) state(name string) string {
	b.Helper()
	st, err := b.m.State(b.Context(), name)
	if err != nil {
		b.Fatal(err)
	}
	return st.Active
}

func TestInstallTwice(t *testing.T) {
	b := newBench(t)
	if st := b.state(prefix + ".service"); st != "inactive" {
		t.Errorf("the daemon is %s before the first connection", st)
	}
	b.connect()
	r, err := setup.Install(t.Context(), b.m, b.o)
	if err != nil || len(r.Done) > 0 {
		t.Errorf("a second time did %q, %v", r.Done, err)
	}
	b.o.Flags = []string{"--log-level=debug"}
	r, err = setup.Install(t.Context(), b.m, b.o)
	if err != nil || !slices.ContainsFunc(r.Done, func(s string) bool { return strings.HasPrefix(s, "restarted") }) {
		t.Errorf("with other flags it did %q, %v", r.Done, err)
	}
}

// Containers end first, the daemon writes down how, the holder goes last.
func TestStopHolder(t *testing.T) {
	b := newBench(t)
	b.connect()
	id := b.container()
	b.systemctl("stop", prefix+"-rootless.service")
	b.inOrder("daemon up", "daemon "+id.Short()+" running exited=false code=0",
		"daemon "+id.Short()+" ended exited=true code=7", "daemon down", "holder down")
	b.connect() // brings all back
}

// The daemon alone can stop; containers do not notice.
func TestStopDaemon(t *testing.T) {
	b := newBench(t)
	b.connect()
	id := b.container()
	b.systemctl("stop", prefix+".socket", prefix+".service")
	if st := b.state(b.m.UnitName(id)); st != "active" {
		t.Errorf("the container is %s", st)
	}
	b.systemctl("start", prefix+".socket")
	b.connect()
	b.inOrder("daemon up", "daemon down", "daemon found "+id.Short()+" running", "daemon up")
	b.systemctl("restart", prefix+".service")
	if st := b.state(b.m.UnitName(id)); st != "active" {
		t.Errorf("the container is %s after a restart of the daemon", st)
	}
}

// After a crash of the holder containers end cleanly, and holder and daemon come back.
func TestCrashOfHolder(t *testing.T) {
	b := newBench(t)
	b.connect()
	id := b.container()
	b.systemctl("kill", "--kill-who=main", "--signal=KILL", prefix+"-rootless.service")
	b.inOrder("holder up", "daemon up", "daemon "+id.Short()+" ended exited=true code=7", "daemon down", "holder up", "daemon up")
}

// A restart of the holder restarts what is bound to it; containers are the engine's to start.
func TestRestartHolder(t *testing.T) {
	b := newBench(t)
	b.connect()
	id := b.container()
	b.systemctl("restart", prefix+"-rootless.service")
	b.inOrder("daemon "+id.Short()+" ended exited=true code=7", "daemon down", "holder down", "holder up", "daemon up")
	if st := b.state(b.m.UnitName(id)); st == "active" {
		t.Errorf("systemd has started the container again by itself")
	}
	t.Log(strings.Join(b.lines(), "\n"))
}
