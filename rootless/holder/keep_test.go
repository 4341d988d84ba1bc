package holder

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/rootless"
)

// keeper serves keeping in a directory of its own and returns its client, and
// a socket as the daemon's.
func keeper(t *testing.T) (rootless.Keeper, *net.UnixListener) {
	t.Helper()
	dir, err := os.MkdirTemp("", "keep") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	wait, err := serveKeeping(ctx, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); wait() })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "moss.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // tests close it too
	return rootless.NewKeeper(dir), l
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // tests close them too
	return r, w
}

// woken waits for the daemon's socket to be connected to.
func woken(t *testing.T, l *net.UnixListener) {
	t.Helper()
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("the daemon was not woken: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestKeep(t *testing.T) {
	k, l := keeper(t)
	if !k.Available() || rootless.NewKeeper(t.TempDir()).Available() {
		t.Error("a keeper does not know whether its holder keeps files")
	}
	if files, err := k.Take(t.Context()); err != nil || len(files) != 0 {
		t.Fatalf("an empty keeping has %d files, %v", len(files), err)
	}
	memory, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC) // nothing to wait for
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Give(t.Context(), []rootless.Kept{{Name: "a.dns", File: os.NewFile(uintptr(memory), "memory"), Watch: true}}, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	out, printed := pipe(t)
	read, in := pipe(t)
	give := []rootless.Kept{{Name: "a.out", File: out, Watch: true}, {Name: "a.in", File: in}, {Name: "a.in", File: in}}
	if err := k.Give(t.Context(), give, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{out, in} { // the holder alone has them now
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := printed.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	woken(t, l)
	for range 2 { // a daemon that is killed takes them again
		files, err := k.Take(t.Context())
		if err != nil || len(files) != 3 || files[0].Name != "a.out" || files[1].Name != "a.in" {
			t.Fatalf("taken: %v, %v", files, err)
		}
		for _, f := range files[1:] {
			if err := f.File.Close(); err != nil {
				t.Error(err)
			}
		}
		out = files[0].File
		defer out.Close()
	}
	b := make([]byte, 16)
	if n, err := out.Read(b); err != nil || string(b[:n]) != "hello" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if err := k.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Nobody has the writing end of the other pipe any more.
	if _, err := read.Read(b); err != io.EOF {
		t.Errorf("the dropped file is open: %v", err)
	}
}

// A file that was readable before counts, and so does the end of a process.
func TestKeepWakes(t *testing.T) {
	k, l := keeper(t)
	out, printed := pipe(t)
	if _, err := printed.WriteString("early"); err != nil {
		t.Fatal(err)
	}
	if err := k.Give(t.Context(), []rootless.Kept{{Name: "a.out", File: out, Watch: true}}, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	woken(t, l)

	p, err := os.StartProcess("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(p.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	end := os.NewFile(uintptr(fd), "pidfd")
	defer end.Close()
	quiet, _ := pipe(t)
	give := []rootless.Kept{{File: end, Watch: true}, {Name: "a.out", File: quiet, Watch: true}, {Name: "b.in", File: printed}}
	if err := k.Give(t.Context(), give, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if err := l.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Accept(); err == nil {
		t.Error("the daemon was woken for nothing")
		_ = c.Close()
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	woken(t, l)
	if _, err := p.Wait(); err != nil {
		t.Error(err)
	}
	files, err := k.Take(t.Context())
	if err != nil || len(files) != 2 {
		t.Errorf("what is only watched was given back: %v, %v", files, err)
	}
	for _, f := range files {
		if err := f.File.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The holder tells who connected to a socket.
func TestKeepPeerUID(t *testing.T) {
	k, l := keeper(t)
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	accepted, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if uid, err := k.PeerUID(t.Context(), accepted); err != nil || uid != uint32(os.Getuid()) {
		t.Errorf("the peer is %d, %v", uid, err)
	}
	if _, err := c.Write([]byte("x")); err != nil { // the connection goes on
		t.Error(err)
	}
	if _, err := accepted.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	out, _ := pipe(t)
	if uid, err := k.PeerUID(t.Context(), out); err == nil {
		t.Errorf("a pipe is of %d", uid)
	}
}

// A socket that is not there yet is tried again, and a daemon that dies while
// it gives leaves what is kept as it was.
func TestKeepFaults(t *testing.T) {
	k, l := keeper(t)
	out, printed := pipe(t)
	late := l.Addr().String() + ".late"
	if err := k.Give(t.Context(), []rootless.Kept{{Name: "a.out", File: out, Watch: true}}, late); err != nil {
		t.Fatal(err)
	}
	if _, err := printed.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(filepath.Dir(late), rootless.KeepSockFile), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if err := rootless.SendKeep(c, rootless.KeepMessage{Op: rootless.KeepGive, Name: "b.out"}, printed); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	made, err := net.ListenUnix("unix", &net.UnixAddr{Name: late, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	woken(t, made)
	files, err := k.Take(t.Context())
	if err != nil || len(files) != 1 || files[0].Name != "a.out" {
		t.Fatalf("kept: %v, %v", files, err)
	}
	if err := files[0].File.Close(); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"no message", `{"op":"give","name":"x"}`, `{"op":"unheard of"}`} {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(filepath.Dir(late), rootless.KeepSockFile), Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if m, _, err := rootless.ReceiveKeep(c); err != nil || m.Op != rootless.KeepFailed || m.Error == "" {
			t.Errorf("%s was answered by %v, %v", text, m, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
