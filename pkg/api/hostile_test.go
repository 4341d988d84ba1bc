package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// atSocket serves a fake engine at a unix socket until the test ends.
func atSocket(t *testing.T) (s *Server, dial func() net.Conn) {
	t.Helper()
	s, _ = newFake()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, 100*time.Millisecond) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("Serve: %v", err) // clients that never end may outlast the grace
		}
	})
	return s, func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // tests close some of them
		return c
	}
}

// answers makes sure that others are still served.
func answers(t *testing.T, dial func() net.Conn) {
	t.Helper()
	c := dial()
	defer c.Close()
	if _, err := fmt.Fprint(c, "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "OK" {
		t.Errorf("ping: %q, %v", text, err)
	}
}

// A request may have so much before its body, and no more.
func TestLongHeader(t *testing.T) {
	_, dial := atSocket(t)
	for size, want := range map[int]int{60 << 10: http.StatusOK, 100 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		c := dial()
		go func() {
			_, _ = fmt.Fprintf(c, "GET /_ping HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: %s\r\n\r\n", strings.Repeat("a", size))
		}() // it need not be read
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("a header of %d bytes: %s, want %d", size, resp.Status, want)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	answers(t, dial)
}

// Garbage ends its own connection and nothing else.
func TestGarbage(t *testing.T) {
	_, dial := atSocket(t)
	for _, text := range []string{
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client that speaks TLS",
		strings.Repeat("\x00", 4096), "\n\n\n\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET /_ping HTTP/1.1\r\n\r\n", "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
		"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
	} {
		c := dial()
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, text) // the server may have had enough before the end
		if err := c.(*net.UnixConn).CloseWrite(); err != nil && !strings.Contains(err.Error(), "not connected") {
			t.Error(err)
		}
		if answer, _ := io.ReadAll(c); len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 4") && !strings.HasPrefix(string(answer), "HTTP/1.1 5") {
			t.Errorf("%.40q is answered by %.80q", text, answer)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	answers(t, dial)
}

// Thousands of connections that say nothing, and some that say it slowly, are in
// nobody's way, and the end does not wait for them.
func TestIdleConnections(t *testing.T) {
	n := 5000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n = min(n, int(min(limit.Cur, 1<<20)-200)/2) // both ends are this process's
	s, dial := atSocket(t)
	for i := range n {
		if i%100 == 99 {
			answers(t, dial) // those before it have been taken: no more of them wait than may
		}
		c := dial()
		if i%10 == 0 { // the beginning of a request that never ends
			if _, err := io.WriteString(c, "GET /_ping HTTP/1.1\r\nHost: "); err != nil {
				t.Fatal(err)
			}
		}
	}
	answers(t, dial)
	if _, quiet := s.Quiet(); quiet {
		t.Error("the server does not count its connections")
	}
	t.Logf("%d connections", n)
}
