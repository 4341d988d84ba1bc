package sd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

const (
	sendTimeout = 10 * time.Second
	mostFiles   = 253 // SCM_MAX_FD: what one message can carry
	mostName    = 255
)

// Notifier sends messages to the service's manager.
type Notifier struct {
	socket   string // "" when there is no manager
	watchdog time.Duration
}

// NewNotifier takes the manager's socket and the watchdog's interval from the
// environment and removes them there, so that children do not speak for us.
func NewNotifier() (*Notifier, error) {
	watchdog, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		return nil, fmt.Errorf("cannot read the watchdog's interval: %w", err)
	}
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET"), watchdog: watchdog}
	return n, os.Unsetenv("NOTIFY_SOCKET")
}

// Managed says whether a manager listens.
func (n *Notifier) Managed() bool { return n.socket != "" }

// WatchdogInterval is how often the manager wants to hear from us at least; 0 for never.
func (n *Notifier) WatchdogInterval() time.Duration { return n.watchdog }

// Ready says that the service serves; status is shown by systemctl status.
func (n *Notifier) Ready(status string) error {
	return n.send(daemon.SdNotifyReady + "\nSTATUS=" + oneLine(status))
}

// Status changes what systemctl status shows.
func (n *Notifier) Status(status string) error { return n.send("STATUS=" + oneLine(status)) }

// Stopping says that the service shuts down.
func (n *Notifier) Stopping() error { return n.send(daemon.SdNotifyStopping) }

// Reloading says that the service reads its configuration anew; Ready ends it.
func (n *Notifier) Reloading() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return err
	}
	return n.send(daemon.SdNotifyReloading + "\nMONOTONIC_USEC=" + strconv.FormatInt(ts.Nano()/1000, 10))
}

// ExtendTimeout asks for more time to start or stop.
func (n *Notifier) ExtendTimeout(d time.Duration) error {
	return n.send("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10))
}

// Watchdog says that the service lives.
func (n *Notifier) Watchdog() error { return n.send(daemon.SdNotifyWatchdog) }

// KeepAlive tells the watchdog, twice an interval, that the service lives, as
// long as alive returns nil; alive gets a context that ends with the interval.
// It returns when ctx ends; report gets what goes wrong.
func (n *Notifier) KeepAlive(ctx context.Context, alive func(context.Context) error, report func(error)) {
	if n.watchdog <= 0 || n.socket == "" {
		return
	}
	tick := time.NewTicker(n.watchdog / 2)
	defer tick.Stop()
	for {
		probe, cancel := context.WithTimeout(ctx, n.watchdog/2)
		err := alive(probe)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = n.Watchdog()
		}
		if err != nil {
			report(fmt.Errorf("cannot tell the watchdog that the service lives: %w", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Put stores duplicates of files under a name of at most 255 characters, without colons.
func (n *Notifier) Put(name string, files ...*os.File) error {
	if err := checkName(name); err != nil {
		return err
	}
	if len(files) == 0 || len(files) > mostFiles {
		return fmt.Errorf("cannot store %d files under %q: want 1 to %d", len(files), name, mostFiles)
	}
	// FDPOLL=0: the manager must not let go of a pipe whose other end was closed; there may be bytes in it.
	if err := n.send("FDSTORE=1\nFDNAME="+name+"\nFDPOLL=0", files...); err != nil {
		return fmt.Errorf("cannot store %q: %w", name, err)
	}
	return nil
}

// Remove lets go of the files with a name.
func (n *Notifier) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := n.send("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
		return fmt.Errorf("cannot remove %q from the store: %w", name, err)
	}
	return nil
}

// Barrier returns when the manager has taken all that was sent before.
func (n *Notifier) Barrier(ctx context.Context) (err error) {
	if n.socket == "" {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	err = n.send("BARRIER=1", w)
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = r.SetReadDeadline(time.Unix(1, 0)) // the pipe is closed then
	})
	defer stop()
	// The manager closes its end without writing.
	switch _, err := r.Read(make([]byte, 1)); {
	case errors.Is(err, io.EOF):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("the manager does not answer: %w", ctx.Err())
	default:
		return fmt.Errorf("cannot wait for the manager: %w", err)
	}
}

func (n *Notifier) send(message string, files ...*os.File) error {
	if n.socket == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot reach the service manager: %w", err)
	}
	err = c.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		err = sendFiles(c, message, files)
	}
	return errors.Join(err, c.Close())
}

// sendFiles sends descriptors without changing their files' modes, as File.Fd would.
func sendFiles(c *net.UnixConn, message string, files []*os.File) error {
	fds := make([]int, 0, len(files))
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
	}
	defer runtime.KeepAlive(files)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	raw, err := c.SyscallConn() // WriteMsgUnix refuses connected datagram sockets
	if err != nil {
		return err
	}
	var serr error
	err = raw.Write(func(fd uintptr) bool {
		serr = unix.Sendmsg(int(fd), []byte(message), oob, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(serr, unix.EAGAIN)
	})
	return errors.Join(err, serr)
}

func checkName(name string) error {
	bad := func(r rune) bool { return r < ' ' || r > '~' || r == ':' }
	if name == "" || len(name) > mostName || strings.ContainsFunc(name, bad) {
		return fmt.Errorf("invalid name for the descriptor store: %q", name)
	}
	return nil
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }
