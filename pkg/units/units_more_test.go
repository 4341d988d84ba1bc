package units_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/units"
)

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // closed already where that matters
	return r, w
}

// The manager takes every property there is, and connects the streams.
func TestStreamsAndLimits(t *testing.T) {
	needManager(t)
	holder(t)
	r := realRig{m: open(t, false), dir: t.TempDir()}
	id := moss.ContainerID(moss.NewHexID())
	spec := r.Spec(t, id, false)
	spec.Launch.Args[2] = "cat; echo err >&2; " + spec.Launch.Args[2]
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	spec.Stdio = moss.ChildStdio{Stdin: inR, Stdout: outW, Stderr: errW}
	spec.OomScoreAdj = 500
	spec.Resources = moss.Resources{
		Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwap: -1, NanoCPUs: 1_500_000_000, CPUPeriod: 50_000,
		CPUShares: 512, CpusetCpus: "0", CpusetMems: "0", PidsLimit: 100, BlkioWeight: 500,
	}
	if _, err := inW.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	if err := inW.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.m.Collect(context.WithoutCancel(t.Context()), id); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.m.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	spec.Stdio.Close()
	for f, want := range map[*os.File]string{outR: "hello", errR: "err\n"} {
		b := make([]byte, len(want))
		if _, err := io.ReadFull(f, b); err != nil || string(b) != want {
			t.Errorf("stream has %q, %v; want %q", b, err, want)
		}
	}
}

// Neither a reload nor a re-execution of the manager looks like an end.
func TestReload(t *testing.T) {
	needManager(t)
	holder(t)
	r := realRig{m: open(t, false), dir: t.TempDir()}
	id := moss.ContainerID(moss.NewHexID())
	t.Cleanup(func() {
		if err := r.m.Collect(context.WithoutCancel(t.Context()), id); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.m.Start(t.Context(), r.Spec(t, id, false)); err != nil {
		t.Fatal(err)
	}
	seen := make(chan moss.UnitStatus, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = r.m.Watch(ctx, func(st moss.UnitStatus) { seen <- st }) }() // ends with ctx
	for _, verb := range []string{"daemon-reload", "daemon-reexec", "daemon-reload"} {
		run(t, "systemctl", "--user", verb)
		all, err := r.m.List(t.Context())
		if err != nil || len(all) != 1 || all[0].Phase != moss.UnitRunning {
			t.Fatalf("after %s: %+v, %v", verb, all, err)
		}
	}
	r.Exit(t, id, 5)
	timeout := time.After(20 * time.Second)
	for {
		select {
		case st := <-seen:
			if st.Phase == moss.UnitGone {
				t.Errorf("told gone: %+v", st)
			}
			if st.Phase == moss.UnitEnded {
				if st.ExitCode != 5 {
					t.Errorf("ended: %+v", st)
				}
				return
			}
		case <-timeout:
			t.Fatal("the exit was never told")
		}
	}
}

func TestFacts(t *testing.T) {
	needManager(t)
	m := open(t, false)
	n, text, err := m.Version(t.Context())
	if err != nil || n < 240 {
		t.Errorf("version %d, %q, %v", n, text, err)
	}
	c, err := m.Controllers(t.Context())
	if err != nil {
		t.Error(err)
	}
	t.Logf("systemd %d, controllers %v", n, c)
	if st, err := m.State(t.Context(), "moss-nosuchunit.service"); err != nil || st.Load != "not-found" {
		t.Errorf("state of a unit that is not there: %+v, %v", st, err)
	}
	if err := m.StopUnit(t.Context(), "moss-nosuchunit.service"); err != nil {
		t.Error(err)
	}
	if err := m.StartUnit(t.Context(), "moss-nosuchunit.service"); err == nil {
		t.Error("started a unit that is not there")
	}
}

func BenchmarkStart(b *testing.B) {
	needManager(b)
	holder(b)
	for _, busOnly := range []bool{false, true} {
		name := "private"
		if busOnly {
			name = "bus"
		}
		b.Run(name, func(b *testing.B) {
			m := open(b, busOnly)
			dir := b.TempDir()
			for b.Loop() {
				id := moss.ContainerID(moss.NewHexID())
				if _, err := m.Start(b.Context(), moss.UnitSpec{ID: id, Launch: moss.Launch{
					Args: []string{"/bin/sh", "-c", "sleep 100 & echo $! > " + dir + "/pid"}, PIDFile: dir + "/pid",
				}}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := m.Collect(b.Context(), id); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func TestUnavailable(t *testing.T) {
	_, err := units.New(t.Context(), units.Options{RuntimeDir: t.TempDir(), Address: "unix:path=/nonexistent/bus"})
	if moss.ClassOf(err) != moss.Unavailable {
		t.Errorf("without a manager: %v, want Unavailable", err)
	}
}

// A process that is root of a user namespace authenticates as who it is outside.
func TestInUserNamespace(t *testing.T) {
	needManager(t)
	if os.Getenv(outerUID) != "" {
		t.Skip("is there already")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=TestFacts|TestContract/.*/start_tells|TestContract/.*/a_stop_by", "-test.v")
	cmd.Env = append(os.Environ(), outerUID+"="+strconv.Itoa(os.Getuid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Contains(string(out), "SKIP") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Settle has told all that happened before it was called.
func TestSettle(t *testing.T) {
	needManager(t)
	holder(t)
	r := realRig{m: open(t, false), dir: t.TempDir()}
	ended := 0
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.m.Watch(ctx, func(st moss.UnitStatus) { // ends with ctx
			if st.Phase == moss.UnitGone && st.Exited && st.ExitCode == 143 {
				ended++
			}
		})
	}()
	for range 20 {
		id := moss.ContainerID(moss.NewHexID())
		if _, err := r.m.Start(t.Context(), r.Spec(t, id, false)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.m.Collect(context.WithoutCancel(t.Context()), id); err != nil {
				t.Error(err)
			}
		})
		r.Stop(t, id)
	}
	if err := r.m.Settle(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
	if ended != 20 {
		t.Errorf("%d of 20 ends were told", ended)
	}
	if err := r.m.Settle(t.Context()); err != nil {
		t.Errorf("without a watch: %v", err)
	}
}

func (r realRig) MemoryLimit(t *testing.T, id moss.ContainerID) int64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemctl", "--user", "show", "--property=MemoryMax", "--value", r.m.UnitName(id)).Output()
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLimiter(t *testing.T) {
	needManager(t)
	holder(t)
	porttest.Limiter(t, func(t *testing.T) porttest.LimiterRig { return realRig{m: open(t, false), dir: t.TempDir()} })
}
