package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idleRuns is how often a container is started in a row that takes none of the connections which wait.
const idleRuns = 5

// giver gives a container its listening sockets. While it runs, connections are
// the container's; when it has ended, it is started again where some wait.
type giver struct {
	engine  engine
	sockets []int  // what is given; nothing is accepted here, unless to refuse it
	names   string // of the sockets, as LISTEN_FDNAMES has them
	counter *net.UnixListener
	log     io.Writer
}

// give runs it with the sockets that the manager has passed.
func give(o options) error {
	n := len(o.ports)
	if err := passes(n + 1); err != nil {
		return err
	}
	if n > mostSockets {
		return fmt.Errorf("%d sockets are too many to be passed, at most %d can be", n, mostSockets)
	}
	g := &giver{engine: client{socket: o.api, id: o.id}, log: os.Stderr}
	var names []string
	for i, p := range o.ports {
		g.sockets = append(g.sockets, firstSocket+i)
		names = append(names, strconv.Itoa(int(p)))
	}
	g.names = strings.Join(names, ":")
	f := os.NewFile(uintptr(firstSocket+n), "counter")
	l, err := net.FileListener(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot listen at the socket of the runtime: %w", err)
	}
	var ok bool
	if g.counter, ok = l.(*net.UnixListener); !ok {
		return fmt.Errorf("the runtime's socket is %T", l)
	}
	g.counter.SetUnlinkOnClose(false) // it is the manager's
	return g.serve(context.Background())
}

// serve goes on until the container has ended and nobody waits any more; the
// socket unit tells when somebody does again.
func (g *giver) serve(ctx context.Context) error {
	for idle := 0; ; {
		waiting, err := g.waiting()
		if err != nil {
			return err
		}
		asked, err := ready(g.counter)
		switch {
		case err != nil:
			return err
		case waiting == 0 && !asked:
			return nil
		case waiting > 0 && idle == idleRuns:
			if err := g.refuse(errors.New("the container ends before it takes a connection")); err != nil {
				return err
			}
			idle = 0
			continue
		}
		began := time.Now()
		took, err := g.run(ctx, !asked)
		if err != nil {
			if err := g.refuse(err); err != nil {
				return err
			}
			continue
		}
		switch left, err := g.waiting(); {
		case err != nil:
			return err
		case left < waiting || time.Since(began) > patience:
			idle = 0
		case took: // else it ran before, or its end is not known to the engine yet
			idle++
		}
	}
}

// run gives the sockets to the runtime that asks for them, which the engine
// starts where start is set, and returns when the container has ended. took is
// false where nobody asked for them. An error says why it could not be started.
func (g *giver) run(ctx context.Context, start bool) (took bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var started, ended chan error // nil where nobody is asked
	if start {
		started = make(chan error, 1)
		go func(answer chan<- error) { answer <- g.engine.start(ctx) }(started)
	}
	came, err := g.accept()
	if err != nil {
		return false, err
	}
	for {
		select {
		case c := <-came:
			if c.err != nil {
				return took, c.err
			}
			took = true
			if err := g.handOver(c.conn); err != nil || started == nil {
				return true, err
			}
			// The engine has yet to say how the start went; till then another may ask: its policy's
			// restart can come before it, and fail.
			if came, err = g.accept(); err != nil {
				return true, err
			}
		case err := <-started:
			if err != nil || took {
				return g.last(came, took, err)
			}
			// It runs already, or its end is not known to the engine yet, and its policy starts it again.
			started, ended = nil, make(chan error, 1)
			go func(answer chan<- error) { answer <- g.engine.wait(ctx) }(ended)
		case err := <-ended:
			return g.last(came, took, err)
		}
	}
}

// caller is a runtime that asks for the sockets.
type caller struct {
	conn *net.UnixConn
	err  error
}

// accept waits for one.
func (g *giver) accept() (<-chan caller, error) {
	if err := g.counter.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	came := make(chan caller, 1)
	go func() {
		c, err := g.counter.AcceptUnix()
		came <- caller{c, err}
	}()
	return came, nil
}

// last ends accept. Who has come already gets the sockets still.
func (g *giver) last(came <-chan caller, took bool, err error) (bool, error) {
	if err := g.counter.SetDeadline(time.Unix(1, 0)); err != nil {
		return took, err
	}
	if c := <-came; c.err == nil {
		took, err = true, errors.Join(err, g.handOver(c.conn))
	}
	return took, err
}

// handOver gives the sockets, is told which process has them, and waits for its end.
func (g *giver) handOver(c *net.UnixConn) error {
	defer c.Close()
	if err := send(c, g.names, g.sockets...); err != nil {
		fmt.Fprintf(g.log, "the sockets could not be passed: %v\n", err)
		return nil // who asked for them is gone
	}
	_, fds, err := receive(c, 1)
	if err != nil || len(fds) != 1 {
		return nil // the container could not be created, and the engine knows why
	}
	defer unix.Close(fds[0])
	return wait(fds[0])
}

// wait is for a descriptor to have something to read, or for a process to end.
func wait(fd int) error {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ready says whether somebody is connecting to a listener.
func ready(l *net.UnixListener) (bool, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return false, err
	}
	n, pollErr := 0, error(nil)
	err = raw.Control(func(fd uintptr) {
		n, pollErr = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	if errors.Is(pollErr, unix.EINTR) {
		return ready(l)
	}
	return n > 0, errors.Join(err, pollErr)
}

// waiting counts the connections that nobody has taken.
func (g *giver) waiting() (int, error) {
	n := 0
	for _, fd := range g.sockets {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return 0, fmt.Errorf("cannot count the connections: %w", err)
		}
		n += int(info.Unacked) // of a socket that listens, the queue's length
	}
	return n, nil
}

// refuse ends the connections that wait.
func (g *giver) refuse(why error) error {
	for _, fd := range g.sockets {
		for {
			info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				return err
			}
			if info.Unacked == 0 {
				break
			}
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
				continue
			}
			if err != nil {
				return fmt.Errorf("cannot refuse a connection: %w", err)
			}
			fmt.Fprintf(g.log, "a connection was refused: %v\n", why)
			_ = unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // it is told so
			if err := unix.Close(c); err != nil {
				return err
			}
		}
	}
	return nil
}
