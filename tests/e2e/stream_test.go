package e2e

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A connection through a published port does not notice the daemon: it goes on
// while the daemon is frozen, over its kill, and with its successor.
func TestStreamOverKill(t *testing.T) {
	leakFree(t)
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := suite.output(name, args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	t.Cleanup(func() { run("docker", "rm", "-f", "echo") })
	run("docker", "run", "-d", "--name", "echo", "-p", "127.0.0.1::7", "busybox", "nc", "-ll", "-p", "7", "-e", "cat")
	at := run("docker", "port", "echo", "7/tcp")
	var c net.Conn
	var answers *bufio.Reader
	count := 0
	// says sends a line and waits for it to come back.
	says := func() error {
		count++
		line := fmt.Sprintf("line %d %s\n", count, strings.Repeat("x", 500))
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := c.Write([]byte(line)); err != nil {
			return err
		}
		if got, err := answers.ReadString('\n'); err != nil || got != line {
			return fmt.Errorf("%q came back for %q: %w", got, line, err)
		}
		return nil
	}
	// The port is open before the server is.
	deadline := time.Now().Add(patience)
	for {
		var err error
		if c, err = net.Dial("tcp", at); err == nil {
			answers = bufio.NewReader(c)
			if err = says(); err == nil {
				break
			}
			c.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	defer c.Close()
	many := func(when string) {
		t.Helper()
		var longest time.Duration
		for range 100 {
			start := time.Now()
			if err := says(); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			longest = max(longest, time.Since(start))
		}
		t.Logf("%s: at most %s for a line and back", when, longest)
	}
	pid, err := suite.pid()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	many("while the daemon is frozen")
	killed := make(chan error, 1)
	go func() { killed <- suite.kill() }()
	for {
		select {
		case err := <-killed:
			if err != nil {
				t.Fatal(err)
			}
			many("with its successor")
			return
		default:
			many("over its kill")
		}
	}
}
