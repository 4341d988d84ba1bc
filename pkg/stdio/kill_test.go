package stdio_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/logs"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/pkg/stdio"
)

// fdStore is the descriptor store of one daemon: what the test gave it as
// inherited files.
type fdStore struct{ files map[string]*os.File }

func (fdStore) Barrier(context.Context) error { return nil }
func (fdStore) Remove(string) error           { return nil }

func (s fdStore) Put(name string, files ...*os.File) error {
	rc, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var n int
	_ = rc.Control(func(fd uintptr) { n, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
	s.files[name] = os.NewFile(uintptr(n), name)
	return err
}

func (s fdStore) Take(name string) []*os.File {
	if f := s.files[name]; f != nil {
		delete(s.files, name)
		return []*os.File{f}
	}
	return nil
}

func (s fdStore) Names() []string { return nil }

const pumpEnv = "_STDIO_TEST_PUMP" // dir, id, tty, options, and the names of descriptors 3 and on

func TestMain(m *testing.M) {
	if v := os.Getenv(pumpEnv); v != "" {
		if err := pumpForEver(strings.Split(v, ",")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func container(dir, id, size string) *moss.Container {
	c := &moss.Container{ID: moss.ContainerID(id), Dir: dir}
	c.Host.LogConfig = moss.LogConfig{Driver: "json-file", Options: map[string]string{"max-size": size, "max-file": "1000"}}
	return c
}

// restore is the daemon coming up.
func restore(dir, id, size string, tty bool, store stdio.Store) (*stdio.Hub, error) {
	sink, err := logs.New().Open(container(dir, id, size))
	if err != nil {
		return nil, err
	}
	h, err := stdio.New(stdio.Config{Dir: dir + "/stdio", Console: dir + "/c", Store: store})
	if err != nil {
		return nil, err
	}
	return h, h.Restore(context.Background(), moss.StreamID(id), moss.StdioSpec{TTY: tty, Persist: true}, sink)
}

func pumpForEver(args []string) error {
	store := fdStore{map[string]*os.File{}}
	for i, name := range args[4:] {
		store.files[name] = os.NewFile(uintptr(3+i), name)
	}
	if _, err := restore(args[0], args[1], args[3], args[2] == "tty", store); err != nil {
		return err
	}
	select {} // until killed
}

// A daemon that is killed at any instant loses no line of the log and doubles
// none.
func TestLogsAreExactOverKill(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for _, k := range []struct {
		name, size string
		tty        bool
	}{{"pipes", "1000m", false}, {"pipes rotated", "100k", false}, {"terminal", "1000m", true}} {
		t.Run(k.name, func(t *testing.T) { killLoop(t, k.size, k.tty, rounds) })
	}
}

func killLoop(t *testing.T, size string, tty bool, rounds int) {
	dir, err := os.MkdirTemp("", "kill")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	id := moss.NewHexID()
	store := fdStore{map[string]*os.File{}} // the manager
	out, errs := startStream(t, dir, id, size, tty, store)

	var stop atomic.Bool
	counts := make(chan int, 2)
	for _, w := range []*os.File{out, errs} {
		if w == nil {
			continue
		}
		go func() {
			n := 0
			for ; !stop.Load(); n++ {
				var b []byte
				if n%200 < 150 { // bursts, and a line at a time
					for range 50 {
						b = fmt.Appendf(b, "line %d\n", n)
						n++
					}
					n--
				} else {
					b = fmt.Appendf(b, "line %d\n", n)
					time.Sleep(20 * time.Microsecond)
				}
				if _, err := w.Write(b); err != nil {
					t.Error(err)
					break
				}
			}
			counts <- n
		}()
	}
	for range rounds {
		runAndKill(t, dir, id, size, tty, store)
	}
	// The last daemon sees the end.
	h, err := restore(dir, id, size, tty, store)
	if err != nil {
		t.Fatal(err)
	}
	stop.Store(true)
	written := []int{<-counts}
	if errs != nil {
		written = append(written, <-counts)
	}
	if err := h.Finish(t.Context(), moss.StreamID(id)); err != nil {
		t.Fatal(err)
	}
	got := map[moss.StreamKind]*bytes.Buffer{moss.Stdout: {}, moss.Stderr: {}}
	q := moss.LogQuery{Stdout: true, Stderr: true, Tail: -1}
	err = logs.New().Read(t.Context(), container(dir, id, size), q, func(l moss.LogLine) error {
		got[l.Stream].Write(l.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for kind, b := range got {
		n := checkLines(t, kind, b.String())
		total += n
	}
	want := 0
	for _, n := range written {
		want += n
	}
	if total != want {
		t.Errorf("%d lines in the log, %d written", total, want)
	}
	t.Logf("%d lines over %d kills", total, rounds)
}

func checkLines(t *testing.T, kind moss.StreamKind, text string) int {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		if want := "line " + strconv.Itoa(n); strings.TrimRight(line, "\r\n") != want {
			t.Errorf("stream %d: got %q, want %q", kind, line, want)
			return n
		}
		n++
	}
	return n
}

// startStream opens the streams in the place of the first daemon, whose
// descriptors then are the manager's alone.
func startStream(t *testing.T, dir, id, size string, tty bool, store fdStore) (out, errs *os.File) {
	t.Helper()
	sink, err := logs.New().Open(container(dir, id, size))
	if err != nil {
		t.Fatal(err)
	}
	h, err := stdio.New(stdio.Config{Dir: dir + "/stdio", Console: dir + "/c", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	stream := moss.StreamID(id)
	child, err := h.Open(t.Context(), stream, moss.StdioSpec{TTY: tty, Persist: true}, sink)
	if err != nil {
		t.Fatal(err)
	}
	out, errs = child.Stdout, child.Stderr
	if tty {
		out = openTerminal(t, child.ConsoleSocket)
	}
	if err := h.Ready(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/stdio", dir+"/kept"); err != nil { // Finish must not remove the mark
		t.Fatal(err)
	}
	// Our ends are closed by Finish; the store has its own and forgets nothing.
	if err := h.Finish(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/kept", dir+"/stdio"); err != nil {
		t.Fatal(err)
	}
	return out, errs
}

// runAndKill is one daemon's life.
func runAndKill(t *testing.T, dir, id, size string, tty bool, store fdStore) {
	t.Helper()
	args := []string{dir, id, "pipes", size}
	if tty {
		args[2] = "tty"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	for name, f := range store.files {
		args = append(args, name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	var stderr bytes.Buffer
	cmd.Env = append(os.Environ(), pumpEnv+"="+strings.Join(args, ","))
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(10+rand.IntN(50)) * time.Millisecond) // any instant will do
	_ = cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the pump ended by itself: %v %s", err, &stderr)
	}
}

func openTerminal(t *testing.T, socket string) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.WriteMsgUnix([]byte("x"), unix.UnixRights(fd), nil); err != nil {
		t.Fatal(err)
	}
	return slave
}

// elsewhere is a descriptor store of another process: were there copies of the
// pipes in this one, each write would wake its poller.
type elsewhere struct{ fdStore }

func (elsewhere) Put(string, ...*os.File) error { return nil }

// BenchmarkLog is the way from a process's writes to the log file.
func BenchmarkLog(b *testing.B) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const size, line = 64 << 20, 100
	in := dir + "/in"
	if err := os.WriteFile(in, bytes.Repeat([]byte(strings.Repeat("x", line-1)+"\n"), size/line), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, k := range []struct{ name, block string }{{"lines", strconv.Itoa(line)}, {"bulk", "64k"}} {
		b.Run(k.name, func(b *testing.B) {
			b.SetBytes(size)
			var ours, theirs time.Duration
			for b.Loop() {
				o, t := logOf(b, dir, exec.CommandContext(b.Context(), "dd", "if="+in, "bs="+k.block, "status=none"))
				ours, theirs = ours+o, theirs+t
			}
			lines := float64(b.N) * size / line
			b.ReportMetric(float64(ours)/lines, "cpu-ns/line")
			b.ReportMetric(float64(theirs)/lines, "writer-ns/line")
		})
	}
}

// logOf logs what a command prints, and returns the processor time of both.
func logOf(b *testing.B, dir string, cmd *exec.Cmd) (ours, theirs time.Duration) {
	b.Helper()
	id := moss.NewHexID()
	sink, err := logs.New().Open(container(dir, id, "500m"))
	if err != nil {
		b.Fatal(err)
	}
	h, err := stdio.New(stdio.Config{Dir: dir + "/stdio", Console: dir + "/c", Store: elsewhere{}})
	if err != nil {
		b.Fatal(err)
	}
	child, err := h.Open(b.Context(), moss.StreamID(id), moss.StdioSpec{Persist: true}, sink)
	if err != nil {
		b.Fatal(err)
	}
	before := processorTime(b)
	cmd.Stdout = child.Stdout
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	if err := h.Finish(b.Context(), moss.StreamID(id)); err != nil {
		b.Fatal(err)
	}
	ours = processorTime(b) - before
	child.Close()
	_ = os.Remove(dir + "/" + id + "-json.log")
	return ours, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
