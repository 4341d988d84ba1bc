package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SocketEnv is the environment variable that tells a daemon which [Server] to
// ask, in place of systemd's user manager.
const SocketEnv = "_MOSS_UNITS"

// APIEnv is the one that tells it where its API listens.
const APIEnv = "_MOSS_API"

// Files of a service in the engine's run-time directory.
const (
	socketFile = "units.sock"
	lockFile   = "service.lock"
	leftDir    = "children"
)

// How the daemon and the holder are dealt with; moss.service and
// moss-rootless.service say the same of theirs.
const (
	idleStatus   = 100
	watchdog     = 30 * time.Second
	holderStart  = time.Minute
	holderStop   = 15 * time.Second
	daemonStart  = 3 * time.Minute
	daemonStop   = 50 * time.Second // its shutdown-timeout is within
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
)

// Options describe a service.
type Options struct {
	Run    string   // the engine's run-time directory
	Name   string   // of the API's socket, as systemd would call it
	Socket string   // path of the API's socket
	Holder []string // command that holds the namespaces
	Daemon []string
	// Join is the variable that has the daemon join the holder's namespaces.
	Join string
	// Once ends the service when the daemon ends as idle and no container runs.
	Once bool
	Log  *slog.Logger
}

// service is a run of [Serve].
type service struct {
	Options
	*Server
	api    int // the API's socket
	holder *notified
	daemon *notified
}

// Serve is the whole engine in the foreground: it holds the namespaces, listens
// for the daemon, runs it whenever it is needed, and is the manager of the
// containers. When ctx ends it stops all of it, the containers first. It needs
// the process for itself.
func Serve(ctx context.Context, o Options) (err error) {
	if err := os.MkdirAll(o.Run, 0o700); err != nil {
		return err
	}
	lock, err := lockRun(o.Run)
	if err != nil {
		return err
	}
	defer lock.Close()
	life, end := context.WithCancel(context.WithoutCancel(ctx)) // until all is down
	defer end()
	s := &service{Options: o}
	if s.Server, err = NewServer(life, o.Log); err != nil {
		return err
	}
	if err := s.EndLeft(ctx, filepath.Join(o.Run, leftDir)); err != nil {
		return fmt.Errorf("cannot end what the service before has left: %w", err)
	}
	if err := s.UseGroups(ctx, strings.TrimSuffix(o.Name, ".socket")); err != nil {
		return fmt.Errorf("cannot take away the cgroups of containers before: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(o.Socket), 0o700); err != nil {
		return err
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	api, err := listenAPI(o.Socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, api.Close()) }()
	if s.api, err = descriptor(api); err != nil {
		return err
	}
	units, err := listenPackets(filepath.Join(o.Run, socketFile))
	if err != nil {
		return err
	}
	for _, n := range []struct {
		to        **notified
		who, file string
	}{{&s.holder, "the holder of the namespaces", "notify-holder.sock"}, {&s.daemon, "the daemon", "notify.sock"}} {
		if *n.to, err = listenNotify(life, n.who, filepath.Join(o.Run, n.file), o.Log); err != nil {
			return err
		}
	}
	unix.Umask(old)
	go func() {
		if err := s.Server.Serve(life, units); err != nil {
			o.Log.Error("the daemon cannot reach its manager any more", "error", err)
		}
	}()
	return s.run(ctx)
}

// errHolderEnded says that the namespaces have gone, and all that ran in them has been stopped.
var errHolderEnded = errors.New("the namespaces are gone")

// run holds the namespaces, and runs the daemon in them. When the holder ends by
// itself, all of it begins anew, as moss-rootless.service does: the containers have
// ended, and the next daemon brings back those whose policy says so.
func (s *service) run(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		begun := time.Now()
		err := s.hold(ctx)
		if !errors.Is(err, errHolderEnded) || ctx.Err() != nil {
			return err
		}
		if time.Since(begun) > longestPause {
			pause = firstPause
		}
		s.Log.Error("the holder of the namespaces is started again, and the containers have ended", "error", err, "after", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// hold is run with one holder. It returns errHolderEnded where that was ready and ended by itself.
func (s *service) hold(ctx context.Context) error {
	s.holder.begin()
	holder, holderEnded, err := s.Spawn(Process{Args: s.Holder, Env: append(environment(nil), s.notifyEnv("notify-holder.sock")), FDs: []int{-1, 1, 2}})
	if err != nil {
		return err
	}
	holderGone := make(chan string, 1)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		st := <-holderEnded
		s.suspend()
		holderGone <- text(st)
		close(ended)
		cancel()
	}()
	limit := time.NewTimer(holderStart)
	defer limit.Stop()
	was := errors.New("the namespaces cannot be had")
	select {
	case <-s.holder.ready:
		was = errHolderEnded
		s.resume()
		err = s.keepDaemon(inner)
	case <-limit.C:
		err = fmt.Errorf("the holder of the namespaces was not ready after %s", holderStart)
	case <-inner.Done():
	}
	select {
	case how := <-holderGone:
		if ctx.Err() == nil {
			err = errors.Join(err, fmt.Errorf("%w: their holder %s", was, how))
		}
	default:
	}
	s.terminate(holder, ended, holderStop)
	return err
}

// keepDaemon runs the daemon, again and again, until ctx ends or it is not needed.
func (s *service) keepDaemon(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		status, wasReady, err := s.runDaemon(ctx)
		if err != nil || ctx.Err() != nil {
			s.daemon.drop()
			return err
		}
		if wasReady {
			pause = firstPause
		}
		if status.Exited() && status.ExitStatus() == idleStatus {
			s.daemon.drop() // the holder has what is in it
			if all, _ := s.list(); s.Once && len(all) == 0 && len(s.held()) == 0 {
				return nil
			}
			s.Log.Info("the daemon ended as idle; the next connection brings it back")
			if err := readable(ctx, s.api); err != nil {
				s.StopAll(context.WithoutCancel(ctx))
				return nil //nolint:nilerr // the end was asked for
			}
			continue
		}
		s.Log.Warn("the daemon is started again", "ended", text(status), "after", pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// runDaemon runs the daemon once, and when ctx ends stops the containers and then it.
func (s *service) runDaemon(ctx context.Context) (status syscall.WaitStatus, wasReady bool, err error) {
	s.daemon.begin()
	env := append(environment(nil), s.notifyEnv("notify.sock"), s.Join, SocketEnv+"="+filepath.Join(s.Run, socketFile), APIEnv+"="+s.Socket,
		"WATCHDOG_USEC="+strconv.FormatInt(watchdog.Microseconds(), 10))
	fds, names := []int{-1, 1, 2, s.api}, []string{s.Name}
	s.daemon.mu.Lock()
	for _, f := range s.daemon.files {
		fds, names = append(fds, f.fd), append(names, f.name)
	}
	env = append(env, "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	pid, ended, err := s.Spawn(Process{Args: passed(s.Daemon), Env: env, FDs: fds})
	s.daemon.mu.Unlock()
	if err != nil {
		return 0, false, err
	}
	done := make(chan struct{})
	go func() { status = <-ended; close(done) }()
	look := time.NewTicker(watchdog / 6)
	defer look.Stop()
	for begun := time.Now(); ; {
		select {
		case <-done:
			return status, wasReady, nil
		case <-s.daemon.ready:
			wasReady = true
		case <-look.C:
			if quiet := s.daemon.quiet(); wasReady && quiet > watchdog || !wasReady && time.Since(begun) > daemonStart {
				s.Log.Error("the daemon does not answer its watchdog and is killed", "quiet", quiet)
				s.signal(pid, unix.SIGKILL, done)
			}
		case <-ctx.Done():
			s.StopAll(context.WithoutCancel(ctx))
			s.terminate(pid, done, daemonStop)
			return status, wasReady, nil
		}
	}
}

// passed runs a program as the one that LISTEN_FDS is meant for, which is known only after the fork.
func passed(args []string) []string {
	return append([]string{"/bin/sh", "-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@"`}, args...)
}

func (s *service) notifyEnv(file string) string { return "NOTIFY_SOCKET=" + filepath.Join(s.Run, file) }

func text(st syscall.WaitStatus) string {
	if st.Signaled() {
		return "was killed by " + unix.SignalName(st.Signal())
	}
	return "exited with status " + strconv.Itoa(st.ExitStatus())
}

// lockRun keeps a second service away from a run-time directory.
func lockRun(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start: another moss system service runs in %s", dir), f.Close())
	}
	return f, nil
}

// listenAPI makes the API's socket, unless somebody listens there.
func listenAPI(path string) (*net.UnixListener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil { //nolint:noctx // it has a limit
		return nil, errors.Join(fmt.Errorf("cannot listen at %s: another engine does", path), c.Close())
	}
	return listenAt("unix", path)
}

func listenPackets(path string) (*net.UnixListener, error) { return listenAt("unixpacket", path) }

func listenAt(network, path string) (*net.UnixListener, error) {
	st, err := os.Lstat(path)
	if err == nil && st.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("cannot listen at %s: there is something else than a socket", path)
	}
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s: %w", path, err)
	}
	return l, nil
}

// descriptor duplicates that of a listener.
func descriptor(l *net.UnixListener) (fd int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	var serr error
	err = raw.Control(func(old uintptr) { fd, serr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	return fd, errors.Join(err, serr)
}

// readable waits until somebody connects to one of some sockets.
func readable(ctx context.Context, sockets ...int) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(p[0])
	stop := context.AfterFunc(ctx, func() { _ = unix.Close(p[1]) })
	defer func() {
		if stop() {
			_ = unix.Close(p[1])
		}
	}()
	fds := []unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}
	for _, fd := range sockets {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, fd := range fds[1:] {
			if fd.Revents != 0 {
				return nil
			}
		}
	}
}
