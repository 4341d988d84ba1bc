package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// screen is a client in a real terminal.
type screen struct {
	t    *testing.T
	tty  *os.File
	cmd  *exec.Cmd
	more chan struct{} // something was printed, or the end

	mu   sync.Mutex
	text strings.Builder
	eof  bool
}

func open(t *testing.T, rows, cols uint16, name string, args ...string) *screen {
	t.Helper()
	cmd := exec.Command("/usr/bin/env", append([]string{name}, args...)...)
	cmd.Env = append(suite.env(), "HOME="+t.TempDir(), "TERM=xterm")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, tty: tty, cmd: cmd, more: make(chan struct{}, 1)}
	go s.read()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // a test that failed in its midst
		_ = tty.Close()
	})
	return s
}

func (s *screen) read() {
	buf := make([]byte, 4096)
	for {
		n, err := s.tty.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.eof = err != nil // EIO: the client has closed its side
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (s *screen) typeIn(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.tty, keys); err != nil {
		s.t.Fatal(err)
	}
}

// wait returns when what was printed after the last wait contains want, and
// forgets it.
func (s *screen) wait(want string) {
	s.t.Helper()
	if !s.shows(want, patience) {
		s.t.Fatalf("waited for %q in vain; the terminal has %q", want, s.now())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, rest, _ := strings.Cut(s.text.String(), want)
	s.text.Reset()
	s.text.WriteString(rest)
}

// shows says whether want is printed in that time.
func (s *screen) shows(want string, limit time.Duration) bool {
	over := time.After(limit)
	for {
		s.mu.Lock()
		eof := s.eof
		s.mu.Unlock()
		if strings.Contains(s.now(), want) {
			return true
		}
		if eof {
			return false
		}
		select {
		case <-s.more:
		case <-over:
			return false
		}
	}
}

// now is what was printed after the last wait.
func (s *screen) now() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// exit is the client's exit status.
func (s *screen) exit(want int) {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }()
	var err error
	select {
	case err = <-done:
	case <-time.After(patience):
		s.t.Fatalf("the client does not end; the terminal has %q", s.now())
	}
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	if code != want {
		s.t.Fatalf("exit status %d, want %d; the terminal has %q", code, want, s.now())
	}
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := suite.output(args[0], args[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// leakFree loads busybox and checks at the test's end that nothing is left.
func leakFree(t *testing.T) {
	t.Helper()
	must(t, "docker", "load", "-q", "-i", suite.top+"/busybox.tar")
	before, err := suite.census()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := suite.settled(before); err != nil {
			t.Error(err)
		}
	})
}

// remove takes a container away at the test's end, also of one that failed.
func remove(t *testing.T, name string) {
	t.Cleanup(func() {
		_, _ = suite.output("docker", "rm", "--force", name) // gone in most tests
	})
}

func TestTerminal(t *testing.T) {
	for _, client := range []string{"docker", "moss"} {
		t.Run(client, func(t *testing.T) {
			t.Run("size", func(t *testing.T) { terminalSize(t, client) })
			t.Run("ctrl-c", func(t *testing.T) { terminalInterrupt(t, client) })
			t.Run("shell", func(t *testing.T) { terminalShell(t, client) })
			t.Run("detach", func(t *testing.T) { terminalDetach(t, client) })
			t.Run("exec", func(t *testing.T) { terminalExec(t, client) })
			t.Run("raw", func(t *testing.T) { terminalRaw(t, client) })
		})
	}
}

func terminalSize(t *testing.T, client string) {
	leakFree(t)
	s := open(t, 31, 117, client, "run", "-it", "--rm", "busybox", "sh", "-c",
		// The client tells the size when the process is there already.
		`until stty size | grep -q "31 117"; do :; done; trap 'echo now $(stty size)' WINCH; echo first; while :; do sleep 0.05; done`)
	s.wait("first")
	// A client takes a moment from telling the first size to watching for more.
	for seen, i := false, uint16(0); !seen; i++ {
		if err := pty.Setsize(s.tty, &pty.Winsize{Rows: 40, Cols: 90 + i}); err != nil {
			t.Fatal(err)
		}
		if i == 50 {
			t.Fatalf("the new size does not arrive; the terminal has %q", s.now())
		}
		seen = s.shows(fmt.Sprintf("now 40 %d\r\n", 90+i), 200*time.Millisecond)
	}
	s.typeIn("\x03")
	s.exit(130)
}

// Ctrl-C is the terminal's: it ends what runs there, and its shell is told.
func terminalInterrupt(t *testing.T, client string) {
	leakFree(t)
	s := open(t, 24, 80, client, "run", "-it", "--rm", "busybox", "sh", "-c", "trap 'exit 130' INT; echo ready; while :; do sleep 0.05; done")
	s.wait("ready")
	s.typeIn("\x03")
	s.exit(130)
}

func terminalShell(t *testing.T, client string) {
	leakFree(t)
	s := open(t, 24, 80, client, "run", "-it", "--rm", "-e", "PS1=prompt> ", "busybox", "sh")
	s.wait("prompt>")
	s.typeIn("tty; echo $((6*7)) $TERM\r")
	s.wait("/dev/pts/0\r\n")
	s.wait("42 xterm\r\n")
	s.typeIn("sh -c 'echo started $((1)); exec sleep 1000'\r")
	s.wait("started 1\r\n")
	s.typeIn("\x03")
	s.wait("prompt>")
	s.typeIn("echo code $?\r")
	s.wait("code 130\r\n")
	s.typeIn("exit 5\r")
	s.exit(5)
}

func terminalDetach(t *testing.T, client string) {
	leakFree(t)
	remove(t, "held")
	s := open(t, 24, 80, client, "run", "-it", "--name", "held", "-e", "PS1=prompt> ", "busybox", "sh")
	s.wait("prompt>")
	s.typeIn("keep=this\r")
	s.wait("prompt>")
	s.typeIn("\x10\x11")
	s.exit(0)
	if got := must(t, client, "inspect", "--format", "{{.State.Running}}", "held"); got != "true" {
		t.Fatalf("after the detach, running is %s", got)
	}
	s = open(t, 24, 80, client, "attach", "held")
	s.typeIn("echo still $keep\r")
	s.wait("still this\r\n")
	s.typeIn("\x10\x11")
	s.wait("read escape sequence")
	s.exit(1) // docker makes it an error of an attach, not of a run
	// Other keys, if they are asked for.
	s = open(t, 24, 80, client, "attach", "--detach-keys", "ctrl-x,y", "held")
	s.typeIn("echo once $keep\r")
	s.wait("once this\r\n")
	s.typeIn("\x18y")
	s.exit(1)
	s = open(t, 24, 80, client, "attach", "held")
	s.typeIn("exit 6\r")
	s.exit(6)
	if got := must(t, client, "inspect", "--format", "{{.State.ExitCode}}", "held"); got != "6" {
		t.Errorf("exit code %s, want 6", got)
	}
	if got := must(t, client, "logs", "held"); !strings.Contains(got, "still this") || !strings.Contains(got, "once this") {
		t.Errorf("logs lack the terminal's text: %q", got)
	}
	must(t, client, "rm", "held")
}

func terminalExec(t *testing.T, client string) {
	leakFree(t)
	remove(t, "base")
	must(t, client, "run", "-d", "--name", "base", "busybox", "sleep", "1000")
	s := open(t, 20, 70, client, "exec", "-it", "-e", "PS1=prompt> ", "base", "sh")
	s.wait("prompt>")
	s.typeIn("until stty size | grep '20 70'; do :; done\r")
	s.wait("\n20 70\r\n")
	if err := pty.Setsize(s.tty, &pty.Winsize{Rows: 41, Cols: 91}); err != nil {
		t.Fatal(err)
	}
	s.typeIn("until stty size | grep '41 91'; do :; done\r")
	s.wait("\n41 91\r\n")
	s.typeIn("sh -c 'echo started $((1)); exec sleep 1000'\r")
	s.wait("started 1\r\n")
	s.typeIn("\x03")
	s.wait("prompt>")
	s.typeIn("exit 7\r")
	s.exit(7)
	// Detaching leaves the command.
	s = open(t, 20, 70, client, "exec", "-it", "base", "sh", "-c", "echo here; sleep 4321")
	s.wait("here")
	s.typeIn("\x10\x11")
	s.wait("read escape sequence")
	s.exit(1)
	if got := must(t, client, "exec", "base", "ps", "-o", "args"); !strings.Contains(got, "\nsleep 4321") {
		t.Error("the command is gone after the detach")
	}
	must(t, client, "rm", "--force", "base")
}

// The terminal carries bytes as they are, and without -i it takes none.
func terminalRaw(t *testing.T, client string) {
	leakFree(t)
	s := open(t, 24, 80, client, "run", "-it", "--rm", "busybox", "sh", "-c", "stty raw -echo; echo ready; head -c 4 | od -An -tx1")
	s.wait("ready")
	s.typeIn("\x00\x03\x1a\xff")
	s.wait("00 03 1a ff")
	s.exit(0)
	s = open(t, 24, 80, client, "run", "-t", "--rm", "busybox", "sh", "-c", "tty; echo end")
	s.wait("/dev/pts/0")
	s.wait("end")
	s.exit(0)
}
