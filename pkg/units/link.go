package units

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	busName      = "org.freedesktop.systemd1"
	managerPath  = "/org/freedesktop/systemd1"
	managerIface = "org.freedesktop.systemd1.Manager"
	unitIface    = "org.freedesktop.systemd1.Unit"
	propsIface   = "org.freedesktop.DBus.Properties"
	unitPathBase = managerPath + "/unit/"

	dialTimeout = 5 * time.Second
	// relinkTimeout is how long a call waits for a lost connection to come back.
	relinkTimeout = 15 * time.Second
	firstPause    = 20 * time.Millisecond
	longestPause  = 2 * time.Second
)

// link is one connection to the manager.
type link struct {
	conn    *dbus.Conn
	private bool // the manager's own socket
}

func (l *link) lost() <-chan struct{} { return l.conn.Context().Done() }

// call calls a method of the manager and stores its results.
func (l *link) call(ctx context.Context, method string, args []any, results ...any) error {
	return l.callAt(ctx, managerPath, managerIface+"."+method, args, results...)
}

func (l *link) callAt(ctx context.Context, path dbus.ObjectPath, method string, args []any, results ...any) error {
	call := l.conn.Object(busName, path).CallWithContext(ctx, method, 0, args...)
	if call.Err != nil {
		return call.Err
	}
	return call.Store(results...)
}

// dial tries the manager's own socket, then the user bus.
func (m *Manager) dial(ctx context.Context) (*link, error) {
	var first error
	if !m.o.BusOnly {
		l, err := m.dialPrivate(ctx)
		if err == nil {
			return l, nil
		}
		first = err
	}
	l, err := m.dialBus(ctx)
	if err != nil {
		if first != nil {
			err = fmt.Errorf("%w; %w", first, err) // one line: it is shown to every client
		}
		return nil, &moss.Error{Class: moss.Unavailable, Err: err}
	}
	return l, nil
}

func (m *Manager) dialPrivate(ctx context.Context) (*link, error) {
	path := filepath.Join(m.o.RuntimeDir, "systemd", "private")
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return m.greet(c.(*net.UnixConn), path, true)
}

func (m *Manager) dialBus(ctx context.Context) (*link, error) {
	path, err := busPath(m.o.Address)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	l, err := m.greet(c.(*net.UnixConn), path, false)
	if err != nil {
		return nil, err
	}
	if err := m.subscribe(ctx, l); err != nil {
		_ = l.conn.Close() // the connection is of no use without the signals
		return nil, err
	}
	return l, nil
}

// greet authenticates and, on a bus, gets a name.
func (m *Manager) greet(c *net.UnixConn, path string, private bool) (_ *link, err error) {
	defer func() {
		if err != nil {
			_ = c.Close() // may be closed already
			err = fmt.Errorf("cannot speak D-Bus at %s: %w", path, err)
		}
	}()
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return nil, err
	}
	h := &handler{m: m}
	conn, err := dbus.DialUnix(c, dbus.WithContext(m.ctx), dbus.WithSignalHandler(h))
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(*m.o.UID))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if !private {
		if err := conn.Hello(); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &link{conn: conn, private: private}, nil
}

// subscribe asks bus and manager for the signals that the manager's own socket
// delivers unasked.
func (m *Manager) subscribe(ctx context.Context, l *link) error {
	sender := dbus.WithMatchSender(busName)
	for _, match := range [][]dbus.MatchOption{
		{sender, dbus.WithMatchObjectPath(managerPath), dbus.WithMatchInterface(managerIface)},
		{sender, dbus.WithMatchInterface(propsIface), dbus.WithMatchMember("PropertiesChanged"), dbus.WithMatchPathNamespace(managerPath + "/unit")},
	} {
		if err := l.conn.AddMatchSignalContext(ctx, match...); err != nil {
			return err
		}
	}
	return l.call(ctx, "Subscribe", nil)
}

// busPath returns the socket of the first unix address in a list of D-Bus addresses.
func busPath(addresses string) (string, error) {
	for a := range strings.SplitSeq(addresses, ";") {
		rest, ok := strings.CutPrefix(a, "unix:")
		if !ok {
			continue
		}
		for kv := range strings.SplitSeq(rest, ",") {
			key, value, _ := strings.Cut(kv, "=")
			if key != "path" && key != "abstract" {
				continue
			}
			p, err := dbus.UnescapeBusAddressValue(value)
			switch {
			case err != nil:
				return "", fmt.Errorf("cannot use the bus address %.200q: %w", addresses, err)
			case strings.Contains(p, "\x00"): // the kernel would stop there
				return "", fmt.Errorf("cannot use the bus address %.200q: its %s has a zero byte", addresses, key)
			case key == "abstract" && p != "":
				return "@" + p, nil
			case key == "path" && strings.HasPrefix(p, "/") && p != "/": // net takes one that begins with @ for abstract
				return p, nil
			}
			return "", fmt.Errorf("cannot use the bus address %.200q: its %s is none: %.200q", addresses, key, p)
		}
	}
	return "", fmt.Errorf("the bus address %.200q has no unix path", addresses)
}

// connect makes a link and brings what is known of the units up to date.
func (m *Manager) connect(ctx context.Context) (*link, error) {
	l, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	for _, u := range m.units {
		u.told = nil // what happened meanwhile is not known: tell how each unit stands
	}
	m.mu.Unlock()
	if err := m.sync(ctx, l); err != nil {
		return nil, errors.Join(err, l.conn.Close())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link = l
	m.broadcastLocked()
	return l, nil
}

// supervise keeps a link up until Close.
func (m *Manager) supervise(l *link) {
	pause := firstPause
	for {
		if l != nil {
			pause = firstPause
			<-l.lost()
			m.unlink()
			if m.ctx.Err() == nil {
				m.log.Warn("the connection to the user manager is lost, connecting again")
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-m.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, longestPause)
		var err error
		ctx, cancel := context.WithTimeout(m.ctx, 2*dialTimeout)
		if l, err = m.connect(ctx); err != nil {
			l = nil
			m.log.Debug("the user manager does not answer", "error", err, "pause", pause)
		} else {
			m.log.Info("connected to the user manager again")
		}
		cancel()
	}
}

func (m *Manager) unlink() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link, m.reloads = nil, false
	m.broadcastLocked()
}

// up returns the link, waiting for one that is being made again.
func (m *Manager) up(ctx context.Context) (*link, error) {
	timer := time.NewTimer(relinkTimeout)
	defer timer.Stop()
	for {
		m.mu.Lock()
		l, changed := m.link, m.changed
		m.mu.Unlock()
		if l != nil {
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-m.ctx.Done():
			return nil, moss.Errorf(moss.Unavailable, "the connection to the user manager is closed")
		case <-timer.C:
			return nil, moss.Errorf(moss.Unavailable, "the user's systemd does not answer; look at: systemctl --user status")
		}
	}
}

// hungUp says whether the manager has closed its end, which the reader of the link
// may be about to see.
func hungUp(err error) bool { return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) }

// do runs f with the link, again where that was lost meanwhile: for calls that
// may be made twice.
func (m *Manager) do(ctx context.Context, f func(*link) error) error {
	for {
		l, err := m.up(ctx)
		if err != nil {
			return err
		}
		if err = f(l); err == nil || l.conn.Connected() && !hungUp(err) || ctx.Err() != nil {
			return err
		}
		select { // until the loss is seen, lest up returns the dead link for ever
		case <-l.lost():
		case <-ctx.Done():
		}
		m.dropLink(l)
	}
}

// dropLink makes up wait for a new link.
func (m *Manager) dropLink(l *link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.link == l {
		m.link = nil
	}
}

// unitPath is the object of a unit.
func unitPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(unitPathBase + sd.PathBusEscape(name))
}

// isDBus says whether err is the D-Bus error of one of the names.
func isDBus(err error, names ...string) bool {
	e, ok := errors.AsType[dbus.Error](err)
	return ok && slices.Contains(names, e.Name)
}
