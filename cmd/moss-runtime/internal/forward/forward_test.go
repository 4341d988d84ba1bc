package forward

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testEngine has one container, which answers each line with the same when it runs.
type testEngine struct {
	mu      sync.Mutex
	changed sync.Cond // running
	at      netip.Addr
	running net.Listener
	starts  int
	fail    error // of a start
	port    uint16
	brief   bool // it ends at once
}

func (e *testEngine) address(context.Context) (netip.Addr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running == nil {
		return netip.Addr{}, nil
	}
	return e.at, nil
}

func (e *testEngine) start(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil || e.running != nil {
		return e.fail
	}
	e.starts++
	if e.brief {
		return nil
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(e.at, e.port).String())
	if err != nil {
		return err
	}
	e.running, e.port = l, uint16(l.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }() // the client notices
		}
	}()
	return nil
}

func (e *testEngine) stop(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running == nil {
		return nil
	}
	err := e.running.Close()
	e.running = nil
	e.changed.Broadcast()
	return err
}

func (e *testEngine) wait(context.Context) error {
	e.awaitStop()
	return nil
}

func (e *testEngine) awaitStop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.running != nil {
		e.changed.Wait()
	}
}

func (e *testEngine) runs() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running != nil
}

// manage starts the server again when it has ended, as the socket unit does where somebody
// waits; before the test ends it ends for good.
func manage(t *testing.T, s *server) {
	t.Helper()
	stop, ended := make(chan os.Signal, 1), make(chan bool)
	var enough atomic.Bool
	go func() {
		defer close(ended)
		for !enough.Load() {
			if err := s.serve(stop); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		enough.Store(true)
		stop <- os.Interrupt
		<-ended
	})
}

func testServer(t *testing.T, e *testEngine, idle time.Duration) (s *server, at string, log *lockedBuffer) {
	t.Helper()
	e.at, e.changed.L = netip.MustParseAddr("127.0.0.1"), &e.mu
	// A port for the container; nobody listens there until it is started.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.port = uint16(free.Addr().(*net.TCPAddr).Port)
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // nothing is written
	log = new(lockedBuffer)
	s = &server{engine: e, ports: []uint16{e.port}, sockets: []*net.TCPListener{l.(*net.TCPListener)}, idle: idle, linger: 50 * time.Millisecond, changes: make(chan int), log: log}
	return s, l.Addr().String(), log
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestPassesOnAndStops(t *testing.T) {
	e := &testEngine{}
	s, at, _ := testServer(t, e, 200*time.Millisecond)
	manage(t, s)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			line := strings.Repeat(fmt.Sprint(i), 5000) + "\n"
			go func() { _, _ = io.WriteString(c, line); _ = c.(*net.TCPConn).CloseWrite() }() // the answer tells
			got, err := io.ReadAll(c)
			if err != nil || string(got) != line {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(line), err)
			}
		})
	}
	wg.Wait()
	e.awaitStop()
	if e.starts == 0 {
		t.Error("it was never started")
	}
}

// An open connection keeps the container from being stopped, however quiet it is.
func TestQuietConnectionIsNoIdleness(t *testing.T) {
	e := &testEngine{}
	s, at, _ := testServer(t, e, 20*time.Millisecond)
	manage(t, s)
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for range 3 {
		fmt.Fprintln(c, "line")
		if got, err := r.ReadString('\n'); err != nil || got != "line\n" {
			t.Fatalf("%q, %v", got, err)
		}
		<-time.After(3 * s.idle)
		if !e.runs() {
			t.Fatal("it is stopped while somebody is connected")
		}
	}
	c.Close()
	e.awaitStop()
}

// Without an idle time the service ends, and the container goes on.
func TestLinger(t *testing.T) {
	e := &testEngine{}
	s, at, _ := testServer(t, e, 0)
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	for !e.runs() { // a slow machine may have it end before it has accepted
		c.Close()
		if c, err = net.Dial("tcp", at); err != nil {
			t.Fatal(err)
		}
		go c.Close()
		if err := s.serve(nil); err != nil {
			t.Fatal(err)
		}
	}
	if !e.runs() {
		t.Error("it was stopped")
	}
	_ = e.stop(t.Context()) // of the test's own listener
}

func TestSignalEnds(t *testing.T) {
	e := &testEngine{}
	s, _, _ := testServer(t, e, time.Hour)
	stop := make(chan os.Signal, 1)
	stop <- os.Interrupt
	if err := s.serve(stop); err != nil {
		t.Error(err)
	}
}

func TestRefusesWhereTheContainerCannotBeHad(t *testing.T) {
	for name, test := range map[string]struct {
		e    *testEngine
		want string
	}{
		"no start":     {&testEngine{fail: errors.New("the engine answers 404: gone")}, "404: gone"},
		"ends at once": {&testEngine{brief: true}, "ends before it takes a connection"},
	} {
		t.Run(name, func(t *testing.T) {
			s, at, log := testServer(t, test.e, 0)
			manage(t, s)
			for !strings.Contains(log.String(), test.want) {
				c, err := net.Dial("tcp", at)
				if err != nil {
					continue // it is told so already
				}
				if got, err := io.ReadAll(c); len(got) > 0 {
					t.Fatalf("%q, %v", got, err)
				}
				c.Close()
			}
		})
	}
}

func TestClient(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := map[string]string{
		"POST /containers/a/start": "HTTP/1.0 204 No Content\r\n\r\n",
		"POST /containers/b/start": "HTTP/1.0 404 Not Found\r\nContent-Type: application/json\r\n\r\n{\"message\":\"No such container: b\"}",
		"POST /containers/c/start": "HTTP/1.0 304 Not Modified\r\n\r\n",
		"POST /containers/d/start": "HTT",
		"GET /containers/a/json":   "HTTP/1.0 200 OK\r\n\r\n{\"State\":{\"Running\":true},\"NetworkSettings\":{\"Networks\":{\"n\":{\"IPAddress\":\"10.0.0.7\"}}}}",
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n') // an empty one has no answer
			fields := strings.Fields(line)
			_, _ = io.WriteString(c, answers[strings.Join(fields[:2], " ")]) // the client notices
			c.Close()
		}
	}()
	for id, want := range map[string]string{"a": "", "b": "404: No such container: b", "c": "", "d": "ends early"} {
		err := client{socket, id}.start(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", id, err, want)
		}
	}
	if a, err := (client{socket, "a"}).address(t.Context()); err != nil || a.String() != "10.0.0.7" {
		t.Errorf("%v, %v", a, err)
	}
}

func TestAddressIn(t *testing.T) {
	for _, test := range []struct {
		text, want string
		fails      bool
	}{
		{`{"State":{"Running":false}}`, "invalid IP", false},
		{`{"State":{"Running":true,"Restarting":true}}`, "invalid IP", false},
		{`{"State":{"Running":true}}`, "invalid IP", true},
		{`{`, "invalid IP", true},
		{`{"State":{"Running":true},"NetworkSettings":{"Networks":{"in":{"IPAddress":"10.0.0.1"},"out":{"IPAddress":"10.9.0.1","Gateway":"10.9.0.254"}}}}`, "10.9.0.1", false},
		{`{"State":{"Running":true},"NetworkSettings":{"Networks":{"b":{"IPAddress":"10.0.0.2"},"a":{"IPAddress":"10.0.0.1"}}}}`, "10.0.0.1", false},
		{`{"State":{"Running":true},"NetworkSettings":{"Networks":{"six":{"GlobalIPv6Address":"fd00::2","IPv6Gateway":"fd00::1"}}}}`, "fd00::2", false},
	} {
		got, err := addressIn([]byte(test.text))
		if got.String() != test.want || (err != nil) != test.fails {
			t.Errorf("%s: %s, %v", test.text, got, err)
		}
	}
}
