package local

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/entry"
	"github.com/moss-containers/moss/pkg/moss"
)

// Forward is the program that passes connections on to a container that the first
// of them starts (docs/adr/0013-the-first-connection-starts-a-container.md).
type Forward struct {
	Program moss.Launch
	Sockets string // directory of the sockets where containers get those that listen
}

// Hold implements the engine's port Activator. The sockets are made here, where
// the words for what is wrong with a port are, and kept by the server.
func (c *Client) Hold(ctx context.Context, h moss.HeldPorts) (err error) {
	defer func() { err = moss.Wrap(err, "listen for", h.ID.Short()) }()
	held, err := c.Held(ctx)
	if err != nil || slices.Contains(held, h.ID.Short()) {
		return err
	}
	addrs := entry.Addresses(h.Ports, entry.HasIPv6())
	if len(addrs) >= mostFiles {
		return moss.Errorf(moss.Invalid, "%d ports are too many: at most %d can be held for a container", len(addrs), mostFiles-1)
	}
	var files []*os.File
	defer func() { closeAll(files) }()
	take := func(l interface {
		File() (*os.File, error)
		Close() error
	},
	) error {
		f, err := l.File()
		if err == nil {
			files = append(files, f)
		}
		return errors.Join(err, l.Close())
	}
	for _, a := range addrs {
		l, err := entry.Listen(ctx, a)
		if err == nil {
			err = take(l)
		}
		if err != nil {
			return err
		}
	}
	if h.Listen { // the last: who connects there gets the others
		l, err := c.listenEntry(h.ID)
		if err == nil {
			err = take(l)
		}
		if err != nil {
			return err
		}
	}
	_, err = c.call(ctx, request{Op: opHold, Hold: &hold{ID: h.ID, Args: entry.Args(c.forward.Program.Args, h, addrs), Env: c.forward.Program.Env}}, files...)
	return err
}

// listenEntry listens where a container gets its sockets.
func (c *Client) listenEntry(id moss.ContainerID) (*net.UnixListener, error) {
	path := moss.EntrySocket(c.forward.Sockets, id)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	l, err := listenAt("unix", path)
	if err == nil {
		l.SetUnlinkOnClose(false) // the server has it
	}
	return l, err
}

// Release implements the engine's port Activator.
func (c *Client) Release(ctx context.Context, id moss.ContainerID) error {
	_, err := c.call(ctx, request{Op: opRelease, ID: id})
	if rm := unix.Unlink(moss.EntrySocket(c.forward.Sockets, id)); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, os.NewSyscallError("unlink", rm))
	}
	return moss.Wrap(err, "listen no more for", id.Short())
}

// Held implements the engine's port Activator.
func (c *Client) Held(ctx context.Context) ([]string, error) {
	a, err := c.call(ctx, request{Op: opHeld})
	return a.Held, moss.Wrap(err, "list what is listened for", "")
}

// entrance listens for a container, and runs a program while somebody is connected.
type entrance struct {
	hold
	files []*os.File
	pid   int // of the program while it runs; guarded by the server's mu
	close context.CancelFunc
	ended chan struct{} // it does nothing more
}

// entranceStop is how long the program may take to end.
const entranceStop = 5 * time.Second

// hold keeps sockets and has the program run when somebody connects, as a socket unit does.
func (s *Server) hold(ctx context.Context, r request, files []*os.File) error {
	short := r.Hold.ID.Short()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[short] != nil {
		return moss.Errorf(moss.Conflict, "its ports are listened at already")
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &entrance{hold: *r.Hold, files: files, close: cancel, ended: make(chan struct{})}
	s.entries[short] = e
	go func() {
		defer close(e.ended)
		s.listen(ctx, e)
	}()
	return nil
}

// release lets go of a container's ports; none that are held is no error.
func (s *Server) release(short string) error {
	s.mu.Lock()
	e := s.entries[short]
	delete(s.entries, short)
	s.mu.Unlock()
	if e == nil {
		return nil
	}
	e.close()
	<-e.ended
	closeAll(e.files)
	return nil
}

// held is for which containers there are sockets.
func (s *Server) held() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for short := range s.entries {
		all = append(all, short)
	}
	slices.Sort(all)
	return all
}

// listen runs the program whenever somebody waits, until ctx ends. Where it fails,
// that is tried again later: who waits may give up.
func (s *Server) listen(ctx context.Context, e *entrance) {
	fds := []int{-1, 1, 2}
	for _, f := range e.files {
		fds = append(fds, int(f.Fd()))
	}
	env := append(environment(e.Env), "LISTEN_FDS="+strconv.Itoa(len(e.files)))
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if err := readable(ctx, fds[3:]...); err != nil {
			return // the end was asked for
		}
		status, err := s.pass(ctx, e, Process{Args: passed(e.Args), Env: env, FDs: fds})
		if ctx.Err() != nil {
			return
		}
		if err == nil && status.Exited() && status.ExitStatus() == 0 {
			pause = firstPause / 2
			continue
		}
		if s.suspended() { // it has ended for that, and is tried again when there are namespaces again
			pause = firstPause / 2
			continue
		}
		why := "what passes them on " + text(status)
		if err != nil {
			why = err.Error()
		}
		level := slog.LevelWarn
		if pause == firstPause { // namespaces that were just killed may not be known to be gone
			level = slog.LevelDebug
		}
		s.log.Log(ctx, level, "connections to a container are not passed on", "container", e.ID.Short(), "why", why, "again after", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// pass runs the program once, when there are namespaces for it to be in.
func (s *Server) pass(ctx context.Context, e *entrance, p Process) (status syscall.WaitStatus, err error) {
	if err := s.await(ctx, func() bool { return !s.going }); err != nil {
		return status, err
	}
	pid, ended, err := s.Spawn(p)
	if err != nil {
		return status, err
	}
	s.runs(e, pid)
	defer s.runs(e, 0)
	done := make(chan struct{})
	go func() { status = <-ended; close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.terminate(pid, done, entranceStop)
	}
	return status, nil
}

func (s *Server) suspended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.going
}

func (s *Server) runs(e *entrance, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.pid = pid
}
