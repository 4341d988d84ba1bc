package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	patience   = time.Minute            // for the container to take a connection
	starts     = 3                      // of a container that ends at once, for one connection
	firstPause = 5 * time.Millisecond   // between attempts; it doubles
	lastPause  = 200 * time.Millisecond // …up to this
	linger     = time.Minute            // without connections, before a service without an idle time ends
)

// engine is what the server asks for.
type engine interface {
	// address is where the container is; the zero Addr where it does not run.
	address(ctx context.Context) (netip.Addr, error)
	start(ctx context.Context) error
	stop(ctx context.Context) error
	// wait is for the end of a container that runs.
	wait(ctx context.Context) error
}

type server struct {
	engine  engine
	ports   []uint16
	sockets []*net.TCPListener
	idle    time.Duration
	linger  time.Duration
	changes chan int // of the number of connections
	log     io.Writer
}

func newServer(o options, sockets []*net.TCPListener) *server {
	return &server{
		engine: client{socket: o.api, id: o.id}, ports: o.ports, sockets: sockets, idle: o.idle, linger: linger,
		changes: make(chan int), log: os.Stderr,
	}
}

// serve passes connections on until there was none for a time, or a signal
// comes. What comes while it ends waits in the socket, and starts it again.
func (s *server) serve(stop <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wait := s.linger
	if s.idle > 0 {
		wait = s.idle
	}
	open := 0
	for {
		accepting := s.accept(ctx)
		quiet := time.NewTimer(wait)
		for left := false; !left; {
			select {
			case d := <-s.changes:
				if open += d; open == 0 {
					quiet.Reset(wait)
				}
			case <-quiet.C:
				left = open == 0
			case <-stop:
				return nil
			}
		}
		if !s.pause(accepting, &open) {
			continue // somebody came just now
		}
		if s.idle == 0 {
			return nil
		}
		return s.engine.stop(ctx)
	}
}

// accept takes connections, until the sockets' deadline passes.
func (s *server) accept(ctx context.Context) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i, l := range s.sockets {
		_ = l.SetDeadline(time.Time{}) // of a socket that is open
		wg.Go(func() {
			for {
				c, err := l.AcceptTCP()
				switch {
				case err == nil:
					s.changes <- 1
					go func() {
						s.pass(ctx, c, s.ports[i])
						s.changes <- -1
					}()
				case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, net.ErrClosed):
					return
				default: // it was gone before it was taken, or there are too many files
					pause(ctx, lastPause)
				}
			}
		})
	}
	return &wg
}

// pause ends accept; false where a connection came meanwhile.
func (s *server) pause(accepting *sync.WaitGroup, open *int) bool {
	for _, l := range s.sockets {
		_ = l.SetDeadline(time.Unix(1, 0)) // of a socket that is open
	}
	ended := make(chan struct{})
	go func() { accepting.Wait(); close(ended) }()
	for {
		select {
		case d := <-s.changes:
			*open += d
		case <-ended:
			return *open == 0
		}
	}
}

// pass connects a client with the container.
func (s *server) pass(ctx context.Context, c *net.TCPConn, port uint16) {
	defer c.Close()
	to, err := s.reach(ctx, port)
	if err != nil {
		fmt.Fprintf(s.log, "a connection of %s to port %d was refused: %v\n", c.RemoteAddr(), port, err)
		_ = c.SetLinger(0) // it is told so
		return
	}
	defer to.Close()
	var wg sync.WaitGroup
	wg.Go(func() { oneWay(to, c) })
	wg.Go(func() { oneWay(c, to) })
	wg.Wait()
}

// oneWay copies until the end, and hands that on; a connection that broke takes the other along.
func oneWay(to, from *net.TCPConn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = to.CloseWrite()
	}
	if err != nil && !errors.Is(err, unix.ENOTCONN) {
		_ = to.Close() // broken, as is the other
		_ = from.Close()
	}
}

// reach connects to the container, which is started where it does not run. It
// is asked each time where that is: an address may be somebody else's by now.
func (s *server) reach(ctx context.Context, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := errors.New("it was not tried")
	started := 0
	for wait := firstPause; ctx.Err() == nil; {
		addr, err := s.engine.address(ctx)
		if err != nil {
			return nil, err
		}
		if !addr.IsValid() {
			if started++; started > starts {
				return nil, errors.New("the container ends before it takes a connection")
			}
			if err := s.engine.start(ctx); err != nil {
				return nil, err
			}
			continue
		}
		var c net.Conn
		if c, last = (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", net.JoinHostPort(addr.String(), strconv.Itoa(int(port)))); last == nil {
			return c.(*net.TCPConn), nil
		}
		pause(ctx, wait) // nothing tells when a server begins to listen
		wait = min(2*wait, lastPause)
	}
	return nil, last
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
