package local

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// kill signals a main process. It cannot be another one by now: nobody but us reaps it.
func (s *Server) kill(id moss.ContainerID, sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.units[id.Short()]
	if u == nil || u.st.Phase != moss.UnitRunning && u.st.Phase != moss.UnitStopping {
		return moss.Errorf(moss.Conflict, "it has no main process")
	}
	return os.NewSyscallError("kill", unix.Kill(u.st.PID, sig))
}

// stop ends a unit as its specification says, and keeps its record.
func (s *Server) stop(ctx context.Context, short string) error {
	s.mu.Lock()
	u := s.units[short]
	if u == nil || u.st.Phase != moss.UnitRunning && u.st.Phase != moss.UnitStopping {
		s.mu.Unlock()
		return nil
	}
	sig := syscall.Signal(u.spec.StopSignal)
	if sig == 0 {
		sig = unix.SIGTERM
	}
	u.st.Phase = moss.UnitStopping
	s.tellLocked(u)
	err := unix.Kill(u.st.PID, sig)
	if err == nil && u.st.Frozen { // else it would not hear it
		u.st.Frozen = false
		err = writeGroup(u.group, "cgroup.freeze", "0")
	}
	s.mu.Unlock()
	if err != nil {
		return os.NewSyscallError("kill", err)
	}
	soft, cancel := ctx, func() {}
	if u.spec.StopTimeout >= 0 {
		soft, cancel = context.WithTimeout(ctx, u.spec.StopTimeout)
	}
	defer cancel()
	ended := func() bool { return u.st.Exited }
	if s.await(soft, ended) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	if !u.st.Exited {
		_ = unix.Kill(u.st.PID, unix.SIGKILL) // a zombie takes it too
	}
	s.mu.Unlock()
	return s.await(ctx, ended)
}

// collectEnded makes room for a unit's next run.
func (s *Server) collectEnded(ctx context.Context, short string) error {
	s.mu.Lock()
	u := s.units[short]
	ended := u != nil && u.st.Phase == moss.UnitEnded
	s.mu.Unlock()
	if !ended {
		return nil
	}
	return s.collect(ctx, short)
}

// collect kills what is left of a unit and forgets it.
func (s *Server) collect(ctx context.Context, short string) error {
	s.mu.Lock()
	u := s.units[short]
	if u == nil {
		s.mu.Unlock()
		return nil
	}
	if u.launcher != 0 {
		_ = unix.Kill(-u.launcher, unix.SIGKILL) // who started it takes the unit away
	} else if !u.st.Exited && u.st.PID != 0 {
		if err := unix.Kill(u.st.PID, unix.SIGKILL); err != nil {
			s.mu.Unlock()
			return os.NewSyscallError("kill", err)
		}
	}
	s.mu.Unlock()
	if err := s.await(ctx, func() bool { return u.gone || u.launcher == 0 && (u.st.Exited || u.st.PID == 0) }); err != nil {
		return err
	}
	if u.group != "" {
		if err := removeGroup(ctx, u.group); err != nil {
			return err
		}
	} else if err := killIn(ctx, u.mounts); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.units[short] == u {
		delete(s.units, short)
		u.gone, u.st.Phase = true, moss.UnitGone
		s.tellLocked(u)
	}
	return nil
}

// StopAll stops every unit, side by side, and lets no other start; their records stay.
func (s *Server) StopAll(ctx context.Context) {
	s.mu.Lock()
	s.going = true
	var all []string
	for short, u := range s.units {
		all = append(all, short)
		if u.launcher != 0 {
			_ = unix.Kill(-u.launcher, unix.SIGKILL) // it may have ended just now
		}
	}
	for _, e := range s.entries { // what passes connections on is in the namespaces too
		if e.pid != 0 && s.children[e.pid] != nil {
			_ = unix.Kill(e.pid, unix.SIGTERM)
		}
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, short := range all {
		wg.Go(func() {
			if err := s.stop(ctx, short); err != nil {
				s.log.Warn("a container did not stop", "unit", short, "error", err)
			}
		})
	}
	wg.Wait()
}

// suspend has nothing more start: there are no namespaces to start it in.
func (s *Server) suspend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.going = true
}

// resume lets units start again when there are namespaces again.
func (s *Server) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.going = false
	s.wakeLocked()
}

// mountsOf names the mount namespace of a process; "" where that cannot be told.
func mountsOf(pid int) string {
	name, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/mnt")
	if err != nil {
		return ""
	}
	return name
}

// killIn kills all processes in a mount namespace that is not our own and waits
// for their ends. Where there is no cgroup, it is what a container's processes
// share; with a pid namespace of their own the kernel has killed them by now.
func killIn(ctx context.Context, mounts string) error {
	if mounts == "" || mounts == mountsOf(os.Getpid()) {
		return nil
	}
	for {
		dirs, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		found := false
		for _, d := range dirs {
			pid, err := strconv.Atoi(d.Name())
			if err != nil || mountsOf(pid) != mounts {
				continue
			}
			found = true
			if err := killOne(ctx, pid, func() bool { return mountsOf(pid) == mounts }); err != nil {
				return err
			}
		}
		if !found {
			return nil
		}
	}
}

// killOne kills a process that is still the one that is meant, and waits for its end.
func killOne(ctx context.Context, pid int, is func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(fd)
	if !is() {
		return nil // another one by now
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(time.Second.Milliseconds()))
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return ctx.Err()
}

// signal signals a child that has not been reaped.
func (s *Server) signal(pid int, sig syscall.Signal, done <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-done:
		return
	default:
	}
	if s.children[pid] != nil {
		_ = unix.Kill(pid, sig) // a zombie takes it too
	}
}

// terminate ends a child and returns when it has ended.
func (s *Server) terminate(pid int, done <-chan struct{}, grace time.Duration) {
	s.signal(pid, unix.SIGTERM, done)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	}
	s.signal(pid, unix.SIGKILL, done)
	<-done
}
