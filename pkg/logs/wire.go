package logs

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	wireTimeout = 10 * time.Second // of a connection being made and of a write
	maxBackOff  = 30 * time.Second
)

// address is where a log server listens.
type address struct {
	network, at string
	tls         *tls.Config
}

// parseAddress reads scheme://host[:port] or unix://path.
func parseAddress(key, s, port string, schemes ...string) (address, error) {
	bad := func(why string) (address, error) {
		return address{}, moss.Errorf(moss.Invalid, "log opt '%s' must be like %s://host:%s, not '%s'%s", key, schemes[0], port, s, why)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" {
		return bad("")
	}
	known := false
	for _, k := range schemes {
		known = known || k == u.Scheme
	}
	if !known {
		return bad(": its scheme is none of " + strings.Join(schemes, ", "))
	}
	if strings.HasPrefix(u.Scheme, "unix") {
		path := u.Host + u.Path
		if path == "" {
			return bad(": it has no path")
		}
		return address{network: u.Scheme, at: path}, nil
	}
	if u.Path != "" && u.Path != "/" || u.Hostname() == "" && u.Port() == "" {
		return bad("")
	}
	if p := u.Port(); p != "" {
		port = p
	}
	host := u.Hostname()
	if host == "" {
		host = "localhost"
	}
	return address{network: strings.TrimSuffix(u.Scheme, "+tls"), at: net.JoinHostPort(host, port)}, nil
}

// wantPort refuses an address without a port, where docker has no default for it.
func wantPort(key, s string) error {
	u, err := url.Parse(s)
	if err == nil && u.Port() == "" {
		return moss.Errorf(moss.Invalid, "log opt '%s' must be like %s://host:port, not '%s'", key, u.Scheme, s)
	}
	return err
}

func (a address) datagram() bool { return a.network == "udp" || a.network == "unixgram" }

func (a address) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, wireTimeout)
	defer cancel()
	if a.tls != nil {
		return (&tls.Dialer{Config: a.tls}).DialContext(ctx, a.network, a.at)
	}
	return (&net.Dialer{}).DialContext(ctx, a.network, a.at)
}

// wire is a connection that is made anew when it breaks. While the server cannot
// be reached most writes fail at once: nobody waits for a dead one.
type wire struct {
	dial    func(ctx context.Context) (net.Conn, error)
	timeout time.Duration // of a write; 0 means the usual one
	renew   time.Duration // how old a connection may grow; 0 for any age
	mute    bool          // the server answers nothing: nobody reads but who looks for its refusal
	conn    net.Conn
	refusal chan error // of the connection
	made    time.Time  // the connection
	wait    time.Duration
	next    time.Time // no attempt before
	down    error     // why there is no connection
}

// connect makes the connection where there is none.
func (w *wire) connect() error {
	if w.conn != nil {
		return nil
	}
	if time.Now().Before(w.next) {
		return w.down
	}
	c, err := w.dial(context.Background())
	if err != nil {
		w.backOff(err)
		return err
	}
	w.conn, w.made, w.refusal = c, time.Now(), nil
	if t, ok := c.(*tls.Conn); ok && w.mute {
		w.refusal = make(chan error, 1)
		go listenForRefusal(t, w.refusal)
	}
	return nil
}

// listenForRefusal tells of the alert by which a server refuses a client's
// certificate: with TLS 1.3 that comes after the handshake has succeeded here, and
// what is written meanwhile is lost without an error.
func listenForRefusal(c *tls.Conn, refusal chan<- error) {
	for b := make([]byte, 64); ; {
		_, err := c.Read(b)
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "remote error" {
			refusal <- fmt.Errorf("the server ended the connection: %w", err)
		}
		if err != nil {
			return
		}
	}
}

// refused is why the server has ended the connection, if it has said so.
func (w *wire) refused() error {
	select {
	case err := <-w.refusal:
		return err
	default:
		return nil
	}
}

// backOff lets the next writes fail at once.
func (w *wire) backOff(err error) {
	w.wait = min(maxBackOff, max(time.Second, 2*w.wait))
	w.next, w.down = time.Now().Add(w.wait), err
}

// write writes all of b, at a second attempt over a new connection.
func (w *wire) write(b []byte) error {
	var errs []error
	if w.conn != nil && w.renew > 0 && time.Since(w.made) > w.renew {
		w.hangUp()
	}
	if err := w.refused(); err != nil { // so it will end the next one
		w.hangUp()
		w.backOff(err)
		return err
	}
	for range 2 {
		if err := w.connect(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		err := w.conn.SetWriteDeadline(time.Now().Add(cmp.Or(w.timeout, wireTimeout)))
		if err == nil {
			_, err = w.conn.Write(b)
		}
		if err == nil {
			// One that has stopped still takes what its kernel has room for.
			if w.wait > 0 && time.Since(w.made) > w.wait {
				w.wait = 0
			}
			return nil
		}
		errs = append(errs, err)
		w.hangUp()
		if stalled(err) { // a new connection would be taken, and stall too
			w.backOff(err)
			break
		}
	}
	return errors.Join(errs...)
}

// stalled says that the server is there and does not read.
func stalled(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func (w *wire) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close() // it is broken
	}
	w.conn = nil
}

// Close ends the connection.
func (w *wire) Close() error {
	if w.conn == nil {
		return nil
	}
	c := w.conn
	w.conn = nil
	return errors.Join(w.refused(), c.Close())
}
