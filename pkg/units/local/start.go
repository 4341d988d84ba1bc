package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// start runs the launcher of a unit and finds its main process.
func (s *Server) start(ctx context.Context, r request, files []*os.File) (moss.UnitStatus, error) {
	streams := []int{-1, -1, -1}
	for i, n := range r.Streams {
		streams[n] = int(files[i].Fd()) // blocking, as a program expects its streams to be
	}
	short := r.Spec.ID.Short()
	if err := s.collectEnded(ctx, short); err != nil {
		return moss.UnitStatus{}, err
	}
	if err := os.Remove(r.Spec.PIDFile); err != nil && !os.IsNotExist(err) { //nolint:forbidigo // one of before names another process
		return moss.UnitStatus{}, err
	}
	u := &unit{spec: *r.Spec, st: moss.UnitStatus{Short: short, Phase: moss.UnitStarting}, group: s.groups.of(short)}
	if err := s.vacant(short); err != nil {
		return moss.UnitStatus{}, err
	}
	group, err := s.groups.enter(ctx, short)
	if err != nil {
		return moss.UnitStatus{}, err
	}
	done := make(chan error, 1)
	err = s.launch(u, streams, group, done)
	if group != nil {
		_ = group.Close() // a directory, read-only
	}
	if err != nil { // nothing has begun in its cgroup
		if u.group != "" {
			err = errors.Join(err, removeTree(u.group))
		}
		return moss.UnitStatus{}, err
	}
	runtime.KeepAlive(files)
	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	select {
	case err = <-done:
	case <-limit.C:
		err = moss.Errorf(moss.Unavailable, "the launcher was not ready after %s", startTimeout)
		s.abort(u, done)
	case <-ctx.Done():
		err = ctx.Err()
		s.abort(u, done)
	}
	if err != nil {
		return moss.UnitStatus{}, s.failed(u, err) //nolint:contextcheck // also when ctx is over
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return u.st, nil
}

// launch starts the launcher; done is told when it has ended and the main process is known.
func (s *Server) launch(u *unit, streams []int, group *os.File, done chan<- error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.going {
		return moss.Errorf(moss.Unavailable, "the manager of the containers ends")
	}
	if err := s.vacantLocked(u.st.Short); err != nil {
		return err
	}
	args := u.spec.Args
	if u.spec.OomScoreAdj != 0 { // before anything is forked, which inherits it
		args = append([]string{"/bin/sh", "-c", `echo "$0" >/proc/self/oom_score_adj && exec "$@"`, strconv.Itoa(u.spec.OomScoreAdj)}, args...)
	}
	pid, err := s.forkLocked(Process{Args: args, Env: environment(u.spec.Env), FDs: streams, group: group}, func(st wstatus) {
		u.launcher = 0
		done <- s.launchedLocked(u, st)
		if s.starting--; s.starting == 0 {
			clear(s.strays)
		}
	})
	if err != nil {
		return err
	}
	u.launcher = pid
	s.starting++
	s.units[u.st.Short] = u
	s.tellLocked(u)
	return nil
}

// vacant says whether there is no unit of a name: its cgroup may be made anew then.
func (s *Server) vacant(short string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vacantLocked(short)
}

func (s *Server) vacantLocked(short string) error {
	if old := s.units[short]; old != nil {
		return moss.Errorf(moss.Conflict, "the unit is there already, %s", old.st.Phase)
	}
	return nil
}

// environment is ours with the launcher's on top, without what is between us and our parent.
func environment(more []string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID":
		default:
			env = append(env, kv)
		}
	}
	return append(env, more...)
}

// launchedLocked makes the process that the launcher has left the unit's main one.
func (s *Server) launchedLocked(u *unit, st wstatus) error {
	switch {
	case st.Signaled():
		return moss.Errorf(moss.Internal, "%s was killed by signal %d", u.spec.Args[0], st.Signal())
	case st.ExitStatus() != 0:
		return moss.Errorf(moss.Internal, "%s exited with status %d", u.spec.Args[0], st.ExitStatus())
	}
	text, err := os.ReadFile(u.spec.PIDFile)
	if err != nil {
		return moss.Errorf(moss.Internal, "the launcher has named no main process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return moss.Errorf(moss.Internal, "the launcher has named no main process: %q", text)
	}
	u.st.PID, u.st.StartedAt = pid, time.Now().UTC()
	if end, ok := s.strays[pid]; ok { // before its launcher
		delete(s.strays, pid)
		s.endedLocked(u, end)
		return nil
	}
	if parent, err := parentOf(pid); err != nil || parent != os.Getpid() || s.children[pid] != nil {
		u.st.PID = 0
		return moss.Errorf(moss.Internal, "the process %d that the launcher has named is not its own", pid)
	}
	u.mounts = mountsOf(pid)
	if err := s.left.note(pid, u.mounts); err != nil { // it would outlive us, at worst
		s.log.Warn("a container is not remembered", "pid", pid, "error", err)
	}
	u.st.Phase = moss.UnitRunning
	s.children[pid] = func(st wstatus) { s.endedLocked(u, ending{st, time.Now().UTC()}) }
	s.tellLocked(u)
	return nil
}

// endedLocked records how a main process ended.
func (s *Server) endedLocked(u *unit, e ending) {
	u.st.Phase, u.st.Exited, u.st.ExitedAt, u.st.Frozen = moss.UnitEnded, true, e.at, false
	switch {
	case e.status.Signaled():
		u.st.ExitCode, u.st.Result = 128+int(e.status.Signal()), "signal"
	case e.status.ExitStatus() != 0:
		u.st.ExitCode, u.st.Result = e.status.ExitStatus(), "exit-code"
	default:
		u.st.ExitCode, u.st.Result = 0, "success"
	}
	s.tellLocked(u)
}

// abort kills a launcher that is not waited for any longer.
func (s *Server) abort(u *unit, done <-chan error) {
	s.mu.Lock()
	if u.launcher != 0 {
		_ = unix.Kill(-u.launcher, unix.SIGKILL) // its session; it may have ended
	}
	s.mu.Unlock()
	<-done //nolint:errcheck // why it is aborted is known
}

// failed leaves nothing of a unit that did not start.
func (s *Server) failed(u *unit, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	if e := s.collect(ctx, u.st.Short); e != nil {
		return fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// parentOf is the parent of a process, also of one that has ended and was not reaped.
func parentOf(pid int) (int, error) {
	f, err := statOf(pid)
	if err != nil {
		return 0, err
	}
	if len(f) < 2 {
		return 0, syscall.EINVAL
	}
	return strconv.Atoi(f[1])
}
