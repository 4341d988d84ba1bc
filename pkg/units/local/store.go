package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
)

// mostStored is how many descriptors a message of sd_notify(3) can carry, SCM_MAX_FD.
const mostStored = 253

// notified hears what a child says by sd_notify(3), and is its descriptor store.
type notified struct {
	who   string
	log   *slog.Logger
	ready chan struct{} // gets one value when the child is ready

	mu    sync.Mutex
	files []stored
	alive time.Time // when the child last fed its watchdog
	says  string    // its status
}

// stored is a descriptor, as it is: an os.File might change its mode.
type stored struct {
	name string
	fd   int
}

// hear reads from a socket until ctx ends.
func (n *notified) hear(ctx context.Context, c *net.UnixConn) {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	text, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*mostStored))
	for {
		m, o, _, _, err := c.ReadMsgUnix(text, oob)
		if err != nil {
			if ctx.Err() == nil {
				n.log.Error(n.who+" is not heard any more", "error", err) //nolint:sloglint // one of three
			}
			return
		}
		fds, err := rights.Received(oob[:o])
		if err != nil {
			n.log.Warn("files cannot be received", "from", n.who, "error", err)
		}
		n.take(string(text[:m]), fds)
	}
}

// take does what a message says.
func (n *notified) take(text string, fds []int) {
	said := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			said[k] = v
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.alive = time.Now()
	if said["FDSTOREREMOVE"] == "1" {
		n.dropLocked(said["FDNAME"])
	}
	if said["FDSTORE"] == "1" {
		for _, fd := range fds {
			n.files = append(n.files, stored{said["FDNAME"], fd})
		}
		fds = nil
	}
	if status, ok := said["STATUS"]; ok && status != n.says { // there is no systemctl status
		n.says = status
		n.log.Info(n.who+" says", "status", status) //nolint:sloglint // as above
	}
	for _, fd := range fds { // that of BARRIER=1 is answered by its close
		_ = unix.Close(fd)
	}
	if said["READY"] == "1" {
		select {
		case n.ready <- struct{}{}:
		default:
		}
	}
}

// dropLocked closes what has a name.
func (n *notified) dropLocked(name string) {
	n.files = slices.DeleteFunc(n.files, func(f stored) bool {
		if f.name == name {
			_ = unix.Close(f.fd)
		}
		return f.name == name
	})
}

// drop closes all.
func (n *notified) drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.files {
		_ = unix.Close(f.fd)
	}
	n.files = nil
}

// quiet is for how long nothing was heard.
func (n *notified) quiet() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Since(n.alive)
}

// begin empties ready and starts the watchdog's time for a child that is about to start.
func (n *notified) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.alive, n.says = time.Now(), ""
	select {
	case <-n.ready:
	default:
	}
}

// listenNotify makes the socket of a notified.
func listenNotify(ctx context.Context, who, path string, log *slog.Logger) (*notified, error) {
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("cannot remove %s: %w", path, err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s: %w", path, err)
	}
	n := &notified{who: who, log: log, ready: make(chan struct{}, 1)}
	go n.hear(ctx, c)
	return n, nil
}
