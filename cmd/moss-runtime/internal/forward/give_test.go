package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// takerEngine starts what takes the sockets at the counter, as the runtime does.
type takerEngine struct {
	run    func() error
	ends   func() error // what wait does, nil for nothing
	starts atomic.Int32
}

func (e *takerEngine) start(context.Context) error { e.starts.Add(1); return e.run() }
func (e *takerEngine) stop(context.Context) error {
	return errors.New("it is not for the giver to stop it")
}

func (e *takerEngine) address(context.Context) (netip.Addr, error) {
	return netip.Addr{}, errors.New("nobody connects to it")
}

func (e *takerEngine) wait(context.Context) error {
	if e.ends == nil {
		return nil
	}
	return e.ends()
}

type pid int

func (p pid) Pid() (int, error) { return int(p), nil }

func testGiver(t *testing.T, e engine) (g *giver, at, counter string, log *lockedBuffer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	counter = filepath.Join(t.TempDir(), "s")
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: counter, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(u.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	log = new(lockedBuffer)
	return &giver{engine: e, sockets: []int{int(f.Fd())}, names: "80", counter: u, log: log}, l.Addr().String(), counter, log
}

// takes accepts n connections at the sockets that it is given, and ends.
func takes(counter string, n int) error {
	e, err := Take(counter)
	if err != nil {
		return err
	}
	c := exec.Command("sleep", "inf") // the container's process
	if err := c.Start(); err != nil {
		return errors.Join(err, e.Close())
	}
	err = e.Tell(pid(c.Process.Pid))
	env := strings.Join(e.Environment([]string{"A=b", "LISTEN_FDS=9"}), " ")
	if env != "A=b LISTEN_FDS=1 LISTEN_PID=1 LISTEN_FDNAMES=80" {
		err = errors.Join(err, errors.New(env))
	}
	for range n {
		fd, _, acceptErr := unix.Accept(int(e.Files[0].Fd()))
		if acceptErr == nil {
			f := os.NewFile(uintptr(fd), "client")
			_, acceptErr = io.WriteString(f, "taken")
			acceptErr = errors.Join(acceptErr, f.Close())
		}
		err = errors.Join(err, acceptErr)
	}
	err = errors.Join(err, e.Close(), c.Process.Kill())
	_ = c.Wait() // it was killed
	return err
}

func connect(t *testing.T, at string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Who waits is the container's, which is started for it, and again when it has ended before all are served.
func TestGives(t *testing.T) {
	e := &takerEngine{}
	g, at, counter, log := testGiver(t, e)
	e.run = func() error { return takes(counter, 2) }
	var clients []net.Conn
	for range 4 {
		clients = append(clients, connect(t, at))
	}
	if err := g.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		if got, err := io.ReadAll(c); err != nil || string(got) != "taken" {
			t.Errorf("%q, %v", got, err)
		}
		c.Close()
	}
	if n := e.starts.Load(); n != 2 || log.String() != "" {
		t.Errorf("%d starts, %s", n, log)
	}
}

// A container that is started by hand asks by itself.
func TestGivesWhoAsks(t *testing.T) {
	g, at, counter, _ := testGiver(t, &takerEngine{run: func() error { return errors.New("nobody asked for it") }})
	took := make(chan error)
	go func() { took <- takes(counter, 1) }()
	for asked := false; !asked; {
		var err error
		if asked, err = ready(g.counter); err != nil {
			t.Fatal(err)
		}
	}
	c := connect(t, at)
	defer c.Close()
	if err := g.serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "taken" {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-took; err != nil {
		t.Error(err)
	}
}

// A container that its policy brings back takes who came while the engine did
// not know of its end yet, and said that it runs.
func TestGivesAtRestart(t *testing.T) {
	e := &takerEngine{run: func() error { return nil }}
	g, at, counter, _ := testGiver(t, e)
	e.ends = func() error { return takes(counter, 1) }
	servesOne(t, g, at)
	if n := e.starts.Load(); n != 1 {
		t.Errorf("%d starts", n)
	}
}

// A start of its policy's comes before ours, and fails: ours gets the sockets, too.
func TestGivesAfterFailure(t *testing.T) {
	e := &takerEngine{}
	g, at, counter, _ := testGiver(t, e)
	e.run = func() error { return errors.Join(takesAndFails(counter), takes(counter, 1)) }
	servesOne(t, g, at)
	if n := e.starts.Load(); n != 1 {
		t.Errorf("%d starts", n)
	}
}

// servesOne has a client that is to be taken within a minute.
func servesOne(t *testing.T, g *giver, at string) {
	t.Helper()
	c := connect(t, at)
	defer c.Close()
	served := make(chan error, 1)
	go func() { served <- g.serve(t.Context()) }()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "taken" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// takesAndFails gets the sockets and makes no process.
func takesAndFails(counter string) error {
	e, err := Take(counter)
	if err != nil {
		return err
	}
	return e.Close()
}

func TestRefusesWhatIsNotTaken(t *testing.T) {
	for name, test := range map[string]struct {
		run    func(counter string) error
		starts int32
		why    string
	}{
		"no start": {func(string) error { return errors.New("the engine answers 409: no") }, 1, "409: no"},
		"no process": {func(counter string) error {
			return errors.Join(takesAndFails(counter), errors.New("the engine answers 400: no such program"))
		}, 1, "400: no such program"},
		"takes none": {func(counter string) error { return takes(counter, 0) }, idleRuns, "ends before it takes"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &takerEngine{}
			g, at, counter, log := testGiver(t, e)
			e.run = func() error { return test.run(counter) }
			c := connect(t, at)
			defer c.Close()
			if err := g.serve(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); len(got) > 0 || !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%q, %v", got, err)
			}
			if n := e.starts.Load(); n != test.starts || !strings.Contains(log.String(), test.why) {
				t.Errorf("%d starts, %s", n, log)
			}
		})
	}
}
