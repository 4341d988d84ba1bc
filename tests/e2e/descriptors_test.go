package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A daemon that is about to run out of descriptors says so to whoever wants
// more of them, and goes on: it is the same one afterwards.
func TestFewDescriptors(t *testing.T) {
	leakFree(t)
	pid, err := suite.pid()
	if err != nil {
		t.Fatal(err)
	}
	must(t, "docker", "run", "--rm", "busybox", "true")
	var was unix.Rlimit
	low := unix.Rlimit{Cur: 300}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	low.Max = was.Max
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &was, nil); err != nil {
			t.Error(err)
		}
	}()
	follow := func() (net.Conn, int, string) {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", suite.sock)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprint(c, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n") // who is turned away may be so before
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)         //nolint:bodyclose // it goes with its connection
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusOK {
			return c, resp.StatusCode, ""
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return c, resp.StatusCode, string(body)
	}
	var clients []net.Conn
	end := func(n int) {
		for _, c := range clients[:n] {
			_ = c.Close() // told nothing
		}
		clients = clients[n:]
	}
	defer func() { end(len(clients)) }()
	refused := 0
	for range 400 {
		c, status, text := follow()
		switch {
		case status == http.StatusOK:
			clients = append(clients, c)
			continue
		case status != http.StatusServiceUnavailable || !strings.Contains(text, "files open"):
			t.Fatalf("%d %s", status, text)
		}
		refused++
		_ = c.Close() // it is, at the other end
	}
	if len(clients) < 20 || refused < 100 {
		t.Errorf("%d clients were served and %d refused", len(clients), refused)
	}
	if out, err := suite.output("docker", "ps"); err == nil || !strings.Contains(err.Error(), "files open") {
		t.Errorf("%s, %v", out, err)
	}
	end(10)
	until(t, "there is room for a client", func() bool { _, err := suite.output("docker", "ps"); return err == nil })
	if out, err := suite.output("docker", "run", "--rm", "busybox", "true"); err == nil || !strings.Contains(err.Error(), "files open") {
		t.Errorf("%s, %v", out, err)
	}
	end(len(clients))
	until(t, "there is room for a container", func() bool { _, err := suite.output("docker", "run", "--rm", "busybox", "true"); return err == nil })
	if now, err := suite.pid(); now != pid || err != nil {
		t.Errorf("the daemon was %d and is %d, %v", pid, now, err)
	}
}
