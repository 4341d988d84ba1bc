package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/api"
	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// descriptors keeps this process from running out of them. The store ends the
// process where it cannot open a lock, and elsewhere the half of something fails.
// So what takes them for long is refused first, new connections after that, and
// the store is left alone last.
type descriptors struct {
	log *slog.Logger

	mu      sync.Mutex
	counted int // where the kernel does not tell, as of the time
	at      time.Time
	told    time.Time
}

const (
	leastReserve = 64 // the work of a few requests
	mostReserve  = 1024
	recount      = time.Second
	tellAgain    = time.Minute
)

// used is how many there are, about: all there can be where none is left to look with.
func (d *descriptors) used() int {
	const dir = "/proc/self/fd"
	if st, err := os.Stat(dir); err == nil && st.Size() > 0 { // since Linux 6.2
		return int(st.Size())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) < recount {
		return d.counted
	}
	entries, err := os.ReadDir(dir)
	if d.counted, d.at = len(entries), time.Now(); err != nil {
		d.counted = math.MaxInt32
	}
	return d.counted
}

// room says why nothing may be begun where some halves of the reserve are not left; nil where it may.
func (d *descriptors) room(halves int) error {
	var r unix.Rlimit // the Go runtime has raised it as far as it may
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	limit := int(min(r.Cur, math.MaxInt32))
	reserve := min(max(limit/8, leastReserve), mostReserve)
	if d.used() <= limit-reserve*halves/2 {
		return nil
	}
	err := moss.Errorf(moss.Unavailable, "the engine has nearly all of the %d files open that it may: end clients or containers, or raise its hard limit of open files", limit)
	d.tell(err)
	return err
}

// forStart is asked before what keeps some for long, forConnection before a
// connection is served, and forStore before the store.
func (d *descriptors) forStart() error      { return d.room(4) }
func (d *descriptors) forConnection() error { return d.room(2) }
func (d *descriptors) forStore() error      { return d.room(1) }

func (d *descriptors) tell(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.told.IsZero() || time.Since(d.told) > tellAgain {
		d.told = time.Now()
		d.log.Error("requests are refused", "because", err)
	}
}

// gate is a listener that takes no connection where there is no room for it;
// before it says so, idle ones are ended.
type gate struct {
	net.Listener
	d        *descriptors
	dropIdle func()
}

// refusing is how long a client may take to be told.
const refusing = 100 * time.Millisecond

func (g gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil || g.d.forConnection() == nil {
			return c, err
		}
		g.dropIdle()
		why := g.d.forConnection()
		if why == nil {
			return c, nil
		}
		if err := turnAway(c, why); err != nil {
			g.d.log.Debug("a client was not told why it is not served", "error", err)
		}
	}
}

// turnAway answers a request that is not read. To a client that speaks TLS nothing can be said.
func turnAway(c net.Conn, why error) error {
	defer func() { _ = c.Close() }() // nobody is there to tell
	switch c.(type) {
	case *net.UnixConn, *net.TCPConn:
	default:
		return nil
	}
	if err := c.SetDeadline(time.Now().Add(refusing)); err != nil {
		return err
	}
	return api.WriteUnavailable(c, why.Error(), "")
}

// roomyStdio makes streams only where there is room for them.
type roomyStdio struct {
	engine.Stdio
	d *descriptors
}

func (r roomyStdio) Open(ctx context.Context, id moss.StreamID, s moss.StdioSpec, sink engine.LogSink) (moss.ChildStdio, error) {
	if err := r.d.forStart(); err != nil {
		return moss.ChildStdio{}, err
	}
	return r.Stdio.Open(ctx, id, s, sink)
}
