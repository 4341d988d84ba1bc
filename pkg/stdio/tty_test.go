package stdio

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// sendTerminal is the runtime: it makes a terminal and sends it. The slave is
// the process's.
func sendTerminal(t testing.TB, socket string) *os.File {
	t.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
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
	if _, _, err := c.WriteMsgUnix([]byte("/dev/ptmx"), unix.UnixRights(master), nil); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Close(), unix.Close(master)
	return slave
}

func size(t *testing.T, f *os.File) (rows, cols uint16) {
	t.Helper()
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		t.Fatal(err)
	}
	return ws.Row, ws.Col
}

func TestTerminal(t *testing.T) {
	store := newMemStore()
	h, id, sink := newHub(t, store), newID(), &memSink{}
	r, w := io.Pipe()
	defer w.Close()
	var out syncBuffer
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdin: r, Stdout: &out})
	spec := moss.StdioSpec{TTY: true, Stdin: true, StdinOnce: true, Persist: true, Size: moss.TermSize{Rows: 11, Cols: 22}}
	child := openStream(t, h, id, spec, sink)

	// What brings no terminal is turned away.
	c, err := net.Dial("unix", child.ConsoleSocket)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("hello"))
	_ = c.Close()

	slave := sendTerminal(t, child.ConsoleSocket)
	if err := h.Ready(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := store.count(); n != 2 {
		t.Errorf("%d ends in the store, want tty and stash", n)
	}
	if rows, cols := size(t, slave); rows != 11 || cols != 22 {
		t.Errorf("size %d %d", rows, cols)
	}
	if err := h.Resize(id, moss.TermSize{Rows: 33, Cols: 44}); err != nil {
		t.Fatal(err)
	}
	if rows, cols := size(t, slave); rows != 33 || cols != 44 {
		t.Errorf("size %d %d", rows, cols)
	}
	_, _ = io.WriteString(w, "typed\n")
	line, err := bufio.NewReader(slave).ReadString('\n')
	if line != "typed\n" || err != nil {
		t.Errorf("process read %q, %v", line, err)
	}

	for out.String() != "typed\r\n" { // its echo
		time.Sleep(time.Millisecond)
	}

	// The daemon restarts.
	_ = r.Close()
	h2 := Kill(t, h)
	waitEnd(t, end, nil)
	sink2 := &memSink{}
	if err := h2.Restore(t.Context(), id, spec, sink2); err != nil {
		t.Fatal(err)
	}
	var out2 syncBuffer
	end = attach(t, t.Context(), h2, id, moss.AttachIO{Stdout: &out2})
	text := strings.Repeat("0123456789\n", 5000)
	if _, err := io.WriteString(slave, text); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	finish(t, h2, id)
	waitEnd(t, end, nil)
	want := strings.ReplaceAll(text, "\n", "\r\n")
	if out2.String() != want || sink2.text(moss.Stdout) != want {
		t.Errorf("client got %d bytes, log %d, want %d", len(out2.String()), len(sink2.text(moss.Stdout)), len(want))
	}
	if err := h2.Resize(id, moss.TermSize{Rows: 1, Cols: 1}); moss.ClassOf(err) != moss.Conflict {
		t.Errorf("resize after the end: %v", err)
	}
}

// A process may close its terminal and open it again.
func TestTerminalReopened(t *testing.T) {
	h, id := newHub(t, nil), newID()
	var out syncBuffer
	end := attach(t, t.Context(), h, id, moss.AttachIO{Stdout: &out})
	child := openStream(t, h, id, moss.StdioSpec{TTY: true}, nil)
	slave := sendTerminal(t, child.ConsoleSocket)
	if err := h.Ready(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	name := slave.Name()
	_, _ = io.WriteString(slave, "one")
	_ = slave.Close()
	deadline := time.Now().Add(time.Minute)
	for out.String() != "one" && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	again, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(again, "two")
	finish(t, h, id)
	waitEnd(t, end, nil)
	if out.String() != "onetwo" {
		t.Errorf("client got %q", out.String())
	}
	_ = again.Close()
}

// A runtime that never sends a terminal does not hold Finish up.
func TestNoTerminalComes(t *testing.T) {
	h, id := newHub(t, nil), newID()
	child := openStream(t, h, id, moss.StdioSpec{TTY: true}, nil)
	finish(t, h, id)
	if _, err := os.Stat(child.ConsoleSocket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestConsolePathTooLong(t *testing.T) {
	h, id := newHub(t, nil), newID()
	h.cfg.Console += strings.Repeat("x", 100)
	_, err := h.Open(t.Context(), id, moss.StdioSpec{TTY: true}, nil)
	if err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("got %v", err)
	}
	if h.find(id) != nil {
		t.Error("the stream is still known")
	}
}
