package logs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Plugins calls log drivers that are servers of their own (pkg/plugins).
type Plugins interface {
	Call(ctx context.Context, c moss.PluginCall) error
	// Stream begins a call whose answer is read bit by bit.
	Stream(ctx context.Context, c moss.PluginCall) (io.ReadCloser, error)
}

// UsePlugins makes plugins drivers: their FIFOs are in dir. It is called before
// anything else.
func (l *Logs) UsePlugins(p Plugins, dir string) { l.plugins, l.fifos = p, dir }

const (
	pluginTimeout  = 10 * time.Second
	pluginPatience = 15 * time.Second // of a container's start, as after a boot
	fifoTimeout    = time.Second      // of a write
	fifoDrained    = 2 * time.Second  // for a plugin to read what is left
	pluginBuffer   = 1 << 20          // bytes that wait in memory
	pluginShort    = 2 * time.Second  // of what others wait for
	firstRetry     = 200 * time.Millisecond
	longestRetry   = 5 * time.Second
)

func notRegistered(name string) error {
	return moss.Errorf(moss.Invalid, "logger: no log driver named '%s' is registered (moss has %s, and there is no such plugin)", name, driverNames())
}

// checkPlugin says whether a driver that is none of ours is a plugin.
func (l *Logs) checkPlugin(name string) error {
	_, err := l.capabilities(context.Background(), name, 0)
	switch {
	case err == nil, moss.ClassOf(err) == moss.NotImplemented: // it need not tell
		return nil
	case moss.ClassOf(err) == moss.NotFound:
		return notRegistered(name)
	}
	return moss.Errorf(moss.ClassOf(err), "error looking up logging plugin %s: %w", name, err)
}

func (l *Logs) callPlugin(ctx context.Context, name, method string, in, out any, patience time.Duration) error {
	if l.plugins == nil {
		return moss.Errorf(moss.NotFound, "plugin %q not found", name)
	}
	return l.plugins.Call(ctx, moss.PluginCall{Plugin: name, Kind: moss.LogPlugin, Method: "LogDriver." + method, In: in, Out: out, Timeout: pluginTimeout, Patience: patience})
}

// capabilities says whether a plugin can read what it has logged.
func (l *Logs) capabilities(ctx context.Context, name string, patience time.Duration) (reads bool, err error) {
	var out struct {
		Cap struct{ ReadLogs bool }
		Err string
	}
	err = l.callPlugin(ctx, name, "Capabilities", nil, &out, patience)
	if err == nil && out.Err != "" {
		err = moss.Errorf(moss.NotImplemented, "%s", out.Err)
	}
	return out.Cap.ReadLogs, err
}

// logInfo is what a plugin is told of a container; the names are docker's.
type logInfo struct {
	*info
	ContainerCreated time.Time
}

type startRequest struct {
	File string
	Info *logInfo `json:",omitempty"`
}

// openPlugin opens the log of a driver that is a plugin, and the cache of one that
// cannot read. A container does not start without its plugin; one that runs
// already goes on, and so does its log when the plugin is back.
func (l *Logs) openPlugin(c *moss.Container, s settings) (moss.LogSink, error) {
	p := &pluginLog{l: l, driver: s.driver, id: c.ID, info: &logInfo{infoOf(c), c.Created}}
	ctx, patience := context.Background(), pluginPatience
	if !mustReach(c) { // others are being restored, too: it is told when there is something to log
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, pluginShort)
		defer cancel()
		patience = 0
	}
	reads, err := l.capabilities(ctx, s.driver, patience)
	if mustReach(c) {
		if err != nil && moss.ClassOf(err) != moss.NotImplemented {
			return nil, moss.Errorf(moss.ClassOf(err), "error looking up logging plugin %s: %w", s.driver, err)
		}
		if err := p.start(ctx, patience); err != nil {
			return nil, moss.Wrap(err, "initialize the logging driver", s.driver)
		}
	}
	out, err := newLineSink(newQueue(&queue{to: p, max: pluginBuffer, attempts: math.MaxInt32, retry: firstRetry, patience: fifoTimeout}), c.Dir)
	if err != nil || !s.cached || reads {
		return out, err
	}
	cache, err := l.openFile(c)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return &tee{cache: cache, to: out}, nil
}

// pluginLog sends entries to a plugin, through a FIFO that it is told of. When the
// plugin is gone it is told of another one as soon as it is back.
type pluginLog struct {
	l      *Logs
	driver string
	id     moss.ContainerID
	info   *logInfo

	path  string
	file  *os.File // nil while there is no plugin
	guard *os.File // our own reading end, until the plugin has read something: it may open its own late
	used  bool     // something was written
	fresh bool     // nothing of an earlier daemon is left
	rest  []byte   // of an entry that was written in part: it must be whole
	buf   []byte

	wait time.Duration
	next time.Time // no attempt before
	down error     // why there is no plugin
}

// forgetOld ends what a killed daemon left of the container's log.
func (p *pluginLog) forgetOld() {
	if p.fresh {
		return
	}
	p.fresh = true
	old, err := filepath.Glob(filepath.Join(p.l.fifos, string(p.id)+"-*"))
	if err != nil {
		return
	}
	for _, path := range old {
		_ = p.tellStop(path, nil) // it may not know it
		_ = os.Remove(path)
	}
}

// start makes a FIFO and tells the plugin.
func (p *pluginLog) start(ctx context.Context, patience time.Duration) (err error) {
	if time.Now().Before(p.next) {
		return p.down
	}
	defer func() {
		if err == nil {
			p.wait = 0
			return
		}
		p.stop()
		p.wait = min(longestRetry, max(firstRetry, 2*p.wait))
		p.next, p.down = time.Now().Add(p.wait), err
	}()
	if err := os.MkdirAll(p.l.fifos, 0o700); err != nil {
		return err
	}
	p.forgetOld() //nolint:contextcheck // an older run's end is not the caller's
	p.path = filepath.Join(p.l.fifos, string(p.id)+"-"+moss.NewHexID()[:8])
	if err := unix.Mkfifo(p.path, 0o600); err != nil {
		return &os.PathError{Op: "mkfifo", Path: p.path, Err: err}
	}
	// Opened for both first: for writing alone it opens only where somebody reads.
	if p.guard, err = os.OpenFile(p.path, os.O_RDWR|unix.O_NONBLOCK, 0); err != nil {
		return err
	}
	if p.file, err = os.OpenFile(p.path, os.O_WRONLY|unix.O_NONBLOCK, 0); err != nil {
		return err
	}
	p.used, p.rest = false, nil
	var out struct{ Err string }
	if err := p.l.callPlugin(ctx, p.driver, "StartLogging", startRequest{File: p.path, Info: p.info}, &out, patience); err != nil {
		return err
	}
	if out.Err != "" {
		return moss.Errorf(moss.Internal, "%s", out.Err)
	}
	return nil
}

// stop closes and removes the FIFO.
func (p *pluginLog) stop() {
	for _, f := range []*os.File{p.file, p.guard} {
		if f != nil {
			_ = f.Close() // a FIFO has nothing to say
		}
	}
	p.file, p.guard, p.rest = nil, nil, nil
	if p.path != "" {
		_ = os.Remove(p.path) // the plugin may have done so
		p.path = ""
	}
}

// unread is how many bytes the plugin has not taken yet.
func (p *pluginLog) unread() int {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	err = errors.Join(raw.Control(func(fd uintptr) {
		if v, e := unix.IoctlGetInt(int(fd), unix.TIOCINQ); e == nil {
			n = v
		}
	}))
	if err != nil {
		return 0
	}
	return n
}

func (p *pluginLog) send(ms []message) error {
	if p.file == nil {
		if err := p.start(context.Background(), 0); err != nil {
			return err
		}
	}
	if p.guard != nil && p.used && p.unread() == 0 {
		_ = p.guard.Close() // the plugin reads: from now on its end is noticed
		p.guard = nil
	}
	if err := p.write(p.rest); err != nil {
		return err
	}
	for i := range ms {
		if ms[i].sent {
			continue
		}
		p.buf = appendEntry(p.buf[:0], &ms[i])
		if err := p.write(p.buf); err != nil {
			ms[i].sent = len(p.rest) > 0 // the rest of it goes first
			return err
		}
		ms[i].sent = true
	}
	return nil
}

// write writes b. What is left of it after an error is the rest.
func (p *pluginLog) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := p.file.SetWriteDeadline(time.Now().Add(fifoTimeout)); err != nil {
		return err
	}
	n, err := p.file.Write(b)
	p.used = p.used || n > 0
	switch {
	case err == nil:
		p.rest = nil
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if n > 0 || len(p.rest) > 0 {
			p.rest = append([]byte(nil), b[n:]...)
		}
		return moss.Errorf(moss.Unavailable, "the log plugin %s does not read", p.driver)
	}
	p.stop() // EPIPE: it is gone
	return err
}

// Close lets the plugin read to the end, and tells it.
func (p *pluginLog) Close() error {
	if p.file == nil {
		p.stop()
		p.forgetOld() // of a daemon before, where this one had nothing to log
		return nil
	}
	path := p.path
	err := p.write(p.rest)
	if p.file != nil && err == nil {
		p.drain()
	}
	var out struct{ Err string }
	err = errors.Join(err, p.tellStop(path, &out))
	if out.Err != "" {
		err = errors.Join(err, errors.New(out.Err))
	}
	p.stop()
	return err
}

func (p *pluginLog) tellStop(path string, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), pluginShort)
	defer cancel()
	return p.l.callPlugin(ctx, p.driver, "StopLogging", startRequest{File: path}, out, 0)
}

// drain waits until the plugin has read all: many throw away what they have not
// read when they are told to stop. The kernel tells nobody of that.
func (p *pluginLog) drain() {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for end := time.Now().Add(fifoDrained); p.unread() > 0 && time.Now().Before(end); {
		<-t.C
	}
}

// readPlugin reads what a plugin has logged, or the cache of one that cannot read.
func (l *Logs) readPlugin(ctx context.Context, c *moss.Container, q moss.LogQuery, fn func(moss.LogLine) error) error {
	s, err := parse(c.Host.LogConfig)
	if err != nil {
		return err
	}
	if path := Path(c); path != "" {
		if _, err := os.Stat(path); err == nil {
			return l.readFile(ctx, c, q, fn)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	reads, err := l.capabilities(ctx, s.driver, 0)
	if err != nil && moss.ClassOf(err) != moss.NotImplemented {
		return moss.Errorf(moss.ClassOf(err), "error getting log reader: %w", err)
	}
	if !reads {
		return moss.Errorf(moss.NotImplemented, "configured logging driver does not support reading")
	}
	type config struct {
		Since, Until time.Time
		Tail         int
		Follow       bool
	}
	in := struct {
		Info   *logInfo
		Config config
	}{&logInfo{infoOf(c), c.Created}, config{q.Since, q.Until, q.Tail, q.Follow}}
	body, err := l.plugins.Stream(ctx, moss.PluginCall{Plugin: s.driver, Kind: moss.LogPlugin, Method: "LogDriver.ReadLogs", In: in})
	if err != nil {
		return moss.Errorf(moss.ClassOf(err), "error getting log reader: %w", err)
	}
	defer func() { _ = body.Close() }() // only read
	return readEntries(ctx, body, q, fn)
}

func driverNames() string { return strings.Join(sortedDrivers(), ", ") }
