package holder

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rootless-containers/rootlesskit/v3/pkg/lowlevelmsgutil"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/builtin/msg"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
)

// What the parent asks the child for, beside rootlesskit's own requests.
const (
	requestSockets = "sockets" // for Proto "tcp4" or "tcp6"; the answer has socketBatch of them with it
	requestSource  = "source"  // that connections from foreign addresses find back
)

// A socket belongs to the namespace it was made in, whoever connects it, and the
// owner of a user namespace has all capabilities there: so the parent gets
// sockets in advance, many at once, and makes connections to containers alone.
const (
	socketBatch = 32
	fewSockets  = 8 // when more are asked for
)

// childPatience is how long the parent waits for the child, which waits for nobody.
const childPatience = 10 * time.Second

// socketPool is the parent's side: TCP sockets of the network namespace.
type socketPool struct {
	path     string // the child's socket
	log      *slog.Logger
	patience time.Duration // with the child
	source   achievement   // that a socket may be bound to a foreign address
	spare    [2]spareSockets
}

// spareSockets are those of one family.
type spareSockets struct {
	proto string

	mu      sync.Mutex
	fds     []int
	filling bool
}

func newSocketPool(path string, log *slog.Logger) *socketPool {
	p := &socketPool{path: path, log: log, patience: childPatience}
	p.spare[0].proto, p.spare[1].proto = "tcp4", "tcp6"
	p.source.try = func() error {
		_, err := p.ask(msg.Request{Type: requestSource})
		return err
	}
	p.source.pause, p.source.told = sourcePause, tellOfSource(log)
	return p
}

// dial connects to a container, from the client's own address where that can be.
func (p *socketPool) dial(to, client netip.AddrPort) (*net.TCPConn, error) {
	src := client.Addr().Unmap()
	if src.IsValid() && !src.IsLoopback() && src.Is4() == to.Addr().Is4() && src.Zone() == "" && p.source.ok() {
		c, err := p.connect(to, netip.AddrPortFrom(src, client.Port()))
		if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) { // the port is another's here, the address is not
			c, err = p.connect(to, netip.AddrPortFrom(src, 0))
		}
		// Nobody listening is an answer; no answer may be a container without a
		// route back.
		if err == nil || errors.Is(err, unix.ECONNREFUSED) {
			return c, err
		}
		p.log.Debug("cannot keep the client's address", "client", src, "container", to, "error", err)
	}
	return p.connect(to, netip.AddrPort{})
}

func (p *socketPool) connect(to, from netip.AddrPort) (*net.TCPConn, error) {
	fd, err := p.take(to.Addr())
	if err != nil {
		return nil, err
	}
	timeout := plainTimeout
	if from.IsValid() {
		timeout = sourceTimeout
	}
	f, err := connect(fd, to, from, timeout)
	if err != nil {
		return nil, err
	}
	defer f.Close() // duplicated
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// take is a socket for an address; the caller closes it.
func (p *socketPool) take(to netip.Addr) (int, error) {
	s := &p.spare[0]
	if to.Is6() {
		s = &p.spare[1]
	}
	s.mu.Lock()
	fd, left := -1, len(s.fds)
	if left > 0 {
		fd, s.fds = s.fds[left-1], s.fds[:left-1]
	}
	fill := left <= fewSockets && !s.filling
	s.filling = s.filling || fill
	s.mu.Unlock()
	switch {
	case fill && fd >= 0:
		go func() { _, _ = p.fill(s, false) }() // who finds none asks himself, and hears why
	case fill:
		return p.fill(s, true)
	case fd < 0: // somebody fills it: more are welcome
		return p.fill(s, true)
	}
	return fd, nil
}

// fill gets more sockets, the first for the caller where he wants it.
func (p *socketPool) fill(s *spareSockets, wanted bool) (int, error) {
	fds, err := p.ask(msg.Request{Type: requestSockets, Proto: s.proto})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filling = false
	if err != nil {
		return -1, err
	}
	own := -1
	if wanted {
		own, fds = fds[0], fds[1:]
	}
	for _, fd := range fds { // all who came while there were none have asked
		if len(s.fds) < 2*socketBatch {
			s.fds = append(s.fds, fd)
		} else {
			_ = unix.Close(fd)
		}
	}
	return own, nil
}

// startOutward has the child set the way out up.
func (p *socketPool) startOutward() error {
	_, err := p.ask(msg.Request{Type: requestOutward})
	return err
}

// ask makes a request of the child. Its answer is empty, has sockets with it, or
// says what is wrong.
func (p *socketPool) ask(req msg.Request) ([]int, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p.path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot reach the network namespace: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(p.patience)); err != nil {
		return nil, fmt.Errorf("cannot reach the network namespace: %w", err)
	}
	if _, err := lowlevelmsgutil.MarshalToWriter(conn, &req); err != nil {
		return nil, fmt.Errorf("cannot reach the network namespace: %w", err)
	}
	text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*socketBatch))
	n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
	if err != nil {
		return nil, fmt.Errorf("no answer from the network namespace: %w", err)
	}
	fds, err := rights.Received(oob[:oobn])
	switch {
	case err != nil:
	case len(fds) > 0 || req.Type != requestSockets && n == len(okAnswer):
		return fds, nil
	case n > 4: // behind its length, see lowlevelmsgutil
		var rep msg.Reply
		if err = json.Unmarshal(text[4:n], &rep); err == nil {
			err = errors.New(rep.Error)
		}
	default:
		err = errors.New("an empty answer from the network namespace")
	}
	rights.Close(fds)
	return nil, err
}

// okAnswer is the child's, with or without sockets.
const okAnswer = "fd"

// sendSockets answers with sockets of the namespace.
func (d *portDriver) sendSockets(c *net.UnixConn, proto string) error {
	of := unix.AF_INET
	if proto == "tcp6" {
		of = unix.AF_INET6
	}
	fds, err := d.ns.makeSockets(of, unix.SOCK_STREAM, socketBatch)
	if err != nil {
		return err
	}
	_, _, err = c.WriteMsgUnix([]byte(okAnswer), unix.UnixRights(fds...), nil)
	for _, fd := range fds {
		unix.Close(fd)
	}
	return err
}
