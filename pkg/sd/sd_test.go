package sd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// managerSocket is a socket as a manager's.
func managerSocket(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // nothing is written
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func receive(t *testing.T, c *net.UnixConn) (string, []int) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b, oob := make([]byte, 4096), make([]byte, 4096)
	n, m, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	for _, msg := range msgs {
		got, err := unix.ParseUnixRights(&msg)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, got...)
	}
	return string(b[:n]), fds
}

func TestMessages(t *testing.T) {
	c := managerSocket(t)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("NOTIFY_SOCKET") != "" || !n.Managed() {
		t.Error("the socket is still in the environment, or not seen")
	}
	for want, send := range map[string]func() error{
		"READY=1\nSTATUS=serving all":         func() error { return n.Ready("serving\nall") },
		"STATUS=busy":                         func() error { return n.Status("busy") },
		"STOPPING=1":                          n.Stopping,
		"WATCHDOG=1":                          n.Watchdog,
		"EXTEND_TIMEOUT_USEC=2000000":         func() error { return n.ExtendTimeout(2 * time.Second) },
		"FDSTOREREMOVE=1\nFDNAME=abc.out":     func() error { return n.Remove("abc.out") },
		"FDSTORE=1\nFDNAME=abc.out\nFDPOLL=0": func() error { return n.Put("abc.out", os.Stdin, os.Stdout) },
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		got, fds := receive(t, c)
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if strings.HasPrefix(want, "FDSTORE=") != (len(fds) == 2) {
			t.Errorf("%q came with %d files", got, len(fds))
		}
		for _, fd := range fds {
			if err := unix.Close(fd); err != nil {
				t.Error(err)
			}
		}
	}
	if err := n.Reloading(); err != nil {
		t.Fatal(err)
	}
	if got, _ := receive(t, c); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("got %q", got)
	}
	for _, name := range []string{"", "a:b", "a\nb", strings.Repeat("x", 256)} {
		if n.Put(name, os.Stdin) == nil || n.Remove(name) == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
}

func TestBarrier(t *testing.T) {
	c := managerSocket(t)
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Barrier(t.Context()) }()
	got, fds := receive(t, c)
	if got != "BARRIER=1" || len(fds) != 1 {
		t.Fatalf("got %q with %d files", got, len(fds))
	}
	select {
	case err := <-done:
		t.Fatalf("returned before the manager had closed its end: %v", err)
	default:
	}
	if err := unix.Close(fds[0]); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Barrier(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a barrier with an ended context: %v", err)
	}
}

func TestWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Ready(""), n.Put("x", os.Stdin), n.Remove("x"), n.Barrier(t.Context())); err != nil || n.Managed() {
		t.Errorf("without a manager: %v", err)
	}
}

func TestKeepAlive(t *testing.T) {
	c := managerSocket(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sick := errors.New("sick")
	calls, reported := 0, 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.KeepAlive(ctx, func(context.Context) error {
			calls++
			if calls == 2 {
				return sick
			}
			return nil
		}, func(err error) {
			if errors.Is(err, sick) {
				reported++
			}
		})
	}()
	for range 2 {
		if got, _ := receive(t, c); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	cancel()
	<-done
	if calls < 3 || reported != 1 {
		t.Errorf("%d calls, %d reports; want at least 3 and 1", calls, reported)
	}
}

// TestStore has a service store a pipe and a socket, kill itself and find both after its restart.
func TestStore(t *testing.T) {
	if dir := os.Getenv("SD_TEST_DIR"); dir != "" {
		if err := storeService(t.Context(), dir); err != nil {
			if werr := os.WriteFile(filepath.Join(dir, "error"), []byte(err.Error()), 0o600); werr != nil {
				t.Error(werr)
			}
		}
		return
	}
	if _, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")); err != nil || os.Getuid() == 0 {
		t.Skipf("no user manager here: %v", err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "done"), 0o600); err != nil {
		t.Fatal(err)
	}
	const unit = "moss-sdtest.service"
	cmd := exec.CommandContext(t.Context(), "systemd-run", "--user", "--no-block", "--unit="+unit, "--collect", "-pType=notify", "-pNotifyAccess=main",
		"-pFileDescriptorStoreMax=16", "-pRestart=always", "--setenv=SD_TEST_DIR="+dir, exe, "-test.run=^TestStore$")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "systemctl", "--user", "stop", unit).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	f, err := os.OpenFile(filepath.Join(dir, "done"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := f.Read(b)
	if got := string(b[:n]); err != nil || got != "before:gone=0" {
		text, _ := os.ReadFile(filepath.Join(dir, "error")) // there only when it failed
		t.Errorf("after the restart: %q, %v; the service says %q", got, err, text)
	}
}

func storeService(ctx context.Context, dir string) error {
	n, err := NewNotifier()
	if err != nil {
		return err
	}
	in, err := Inherit()
	if err != nil {
		return err
	}
	s := Store{n, in}
	files := s.Take("pipe")
	if len(files) == 0 {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		if _, err := w.WriteString("before"); err != nil {
			return err
		}
		if err := errors.Join(s.Put("pipe", r), s.Put("gone", w), s.Remove("gone"), s.Barrier(ctx)); err != nil {
			return err
		}
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	// The other end is closed by now: the store had one duplicate, the dead process the other.
	b, err := io.ReadAll(files[0])
	if err != nil {
		return err
	}
	text := string(b) + ":gone=" + string(rune('0'+len(s.Take("gone"))))
	if err := s.Ready("done"); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "done"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	<-make(chan struct{}) // until the unit is stopped
	return nil
}
