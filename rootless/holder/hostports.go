package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/port"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/opaque"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/parent/udp"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/portutil"
	"golang.org/x/sys/unix"
)

// hostPorts is the host's side of the port driver. It meets the namespaces' side
// as rootlesskit's own does, and UDP is rootlesskit's. With TCP, that asks for
// each connection's socket by itself and lists the machine's addresses before;
// this one has sockets at hand (see socketPool), and goes on when it is short of
// files for a moment.
type hostPorts struct {
	port.ParentDriver // rootlesskit's
	log               *slog.Logger
	sockets           *socketPool

	mu    sync.Mutex
	ports map[int]*port.Status
	stops map[int]func(context.Context) error
	last  int
}

func newHostPorts(d port.ParentDriver, log *slog.Logger) *hostPorts {
	return &hostPorts{
		ParentDriver: d, log: log, sockets: newSocketPool(d.OpaqueForChild()[opaque.SocketPath], log),
		ports: map[int]*port.Status{}, stops: map[int]func(context.Context) error{},
	}
}

// AddPort listens at once; connections are taken as soon as it returns.
func (d *hostPorts) AddPort(ctx context.Context, spec port.Spec) (*port.Status, error) {
	d.mu.Lock()
	err := portutil.ValidatePortSpec(spec, d.ports)
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}
	stop, err := d.open(ctx, spec)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	s := &port.Status{ID: d.last, Spec: spec}
	d.ports[s.ID], d.stops[s.ID] = s, stop
	return s, nil
}

func (d *hostPorts) open(ctx context.Context, spec port.Spec) (stop func(context.Context) error, err error) {
	if strings.HasPrefix(spec.Proto, "udp") {
		end, ended := make(chan struct{}), make(chan error, 1)
		stop := func(ctx context.Context) error {
			close(end)
			select {
			case err := <-ended:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return stop, udp.Run(d.sockets.path, spec, end, ended, lineWriter{d.log})
	}
	ip, err := netip.ParseAddr(spec.ChildIP)
	if err != nil {
		return nil, fmt.Errorf("address of the container: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, spec.Proto, net.JoinHostPort(spec.ParentIP, strconv.Itoa(spec.ParentPort)))
	if err != nil {
		return nil, err
	}
	f := &forwarding{log: d.log, sockets: d.sockets, to: netip.AddrPortFrom(ip.Unmap(), uint16(spec.ChildPort)), listener: l}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.done.Go(f.accept)
	return f.stop, nil
}

// RemovePort closes a port and cuts its connections.
func (d *hostPorts) RemovePort(ctx context.Context, id int) error {
	d.mu.Lock()
	stop, ok := d.stops[id]
	delete(d.stops, id)
	d.mu.Unlock()
	if !ok {
		return fmt.Errorf("unknown id: %d", id)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := stop(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.ports, id)
	return err
}

func (d *hostPorts) ListPorts(context.Context) ([]port.Status, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []port.Status
	for _, p := range d.ports {
		all = append(all, *p)
	}
	return all, nil
}

// forwarding is a TCP port at work.
type forwarding struct {
	log      *slog.Logger
	sockets  *socketPool
	to       netip.AddrPort
	listener net.Listener
	ctx      context.Context //nolint:containedctx // of the connections; it ends with the port
	cancel   context.CancelFunc
	done     sync.WaitGroup // the listening, not the connections
}

func (f *forwarding) stop(context.Context) error {
	f.cancel()
	err := f.listener.Close()
	f.done.Wait()
	return err
}

// longestBreath is how long accepting may wait after it went wrong.
const longestBreath = time.Second

func (f *forwarding) accept() {
	breath := time.Duration(0)
	for {
		c, err := f.listener.Accept()
		switch {
		case err == nil:
			breath = 0
			go f.serve(c.(*net.TCPConn))
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		// Short of files, mostly: those of others will be closed.
		f.log.Warn("cannot take a connection to a published port", "port", f.listener.Addr(), "error", err)
		breath = min(max(2*breath, 5*time.Millisecond), longestBreath)
		if !f.wait(breath) {
			return
		}
	}
}

// wait is false where the port has been closed before.
func (f *forwarding) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-f.ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (f *forwarding) serve(client *net.TCPConn) {
	server, err := f.reach(client)
	if err != nil {
		client.Close()
		f.log.Debug("published port", "to", f.to, "error", err)
		return
	}
	defer context.AfterFunc(f.ctx, func() { client.Close(); server.Close() })()
	relay(server, client)
}

// A container's server may be a moment away from listening, above all right
// after the start: the first connection is not cut for that.
const (
	firstRetry = time.Millisecond
	lastRetry  = 64 * time.Millisecond // which makes an eighth of a second in all
)

func (f *forwarding) reach(client *net.TCPConn) (*net.TCPConn, error) {
	from := client.RemoteAddr().(*net.TCPAddr).AddrPort()
	for wait := firstRetry; ; wait *= 2 {
		c, err := f.sockets.dial(f.to, from)
		if err == nil || !errors.Is(err, unix.ECONNREFUSED) || wait > lastRetry || !f.wait(wait) {
			return c, err
		}
	}
}
