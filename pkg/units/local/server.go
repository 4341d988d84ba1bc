package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// startTimeout is how long a launcher may take; a container's unit of systemd has the same.
const startTimeout = 90 * time.Second

// Server is the manager of containers. It needs its process for itself: it is
// the one subreaper, and every child that ends is its to reap. Nothing in the
// process may wait for children but by [Server.Spawn].
type Server struct {
	log    *slog.Logger
	groups groups // set before it serves
	left   left   // as well

	mu       sync.Mutex
	units    map[string]*unit      // by short id
	entries  map[string]*entrance  // as well
	children map[int]func(wstatus) // called with mu held
	strays   map[int]ending        // what ended that nobody knew, while a launcher runs
	starting int
	seq      uint64
	changed  chan struct{} // closed and made anew with every change
	recent   []change      // the latest changes, for watches
	going    bool
}

type wstatus = syscall.WaitStatus

// unit is one container's.
type unit struct {
	st       moss.UnitStatus
	spec     spec
	launcher int    // pid while it runs
	mounts   string // the mount namespace of its processes
	group    string // the directory of its cgroup; "" where units have none
	gone     bool
}

// ending is how a child ended.
type ending struct {
	status wstatus
	at     time.Time
}

// change is what a watch is told.
type change struct {
	seq uint64
	st  moss.UnitStatus
}

// NewServer makes this process the subreaper of all that it starts. ctx ends the reaping.
func NewServer(ctx context.Context, log *slog.Logger) (*Server, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("cannot become a child subreaper: %w", err)
	}
	s := &Server{
		log: log, units: map[string]*unit{}, entries: map[string]*entrance{}, children: map[int]func(wstatus){}, strays: map[int]ending{}, changed: make(chan struct{}),
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		defer signal.Stop(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-ended:
				s.reap()
			}
		}
	}()
	return s, nil
}

// UseGroups gives every unit a cgroup below this process's, named after the engine's
// prefix, where that can be. Without, units cannot be frozen. It is called before Serve.
func (s *Server) UseGroups(ctx context.Context, prefix string) error {
	if s.groups = findGroups(prefix); s.groups.dir == "" {
		s.log.Info("containers have no cgroups: they cannot be paused", "why", s.groups.why)
	}
	return s.groups.sweep(ctx)
}

// EndLeft ends what a server that kept its notes in dir has left, and keeps those
// of this one there. It is called before anything is started.
func (s *Server) EndLeft(ctx context.Context, dir string) error {
	s.left = left{dir}
	return s.left.sweep(ctx)
}

// reap takes every child that has ended.
func (s *Server) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var status wstatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if fn := s.children[pid]; fn != nil {
			s.left.drop(pid)
			delete(s.children, pid)
			fn(status)
		} else if s.starting > 0 {
			s.strays[pid] = ending{status, time.Now().UTC()}
		}
	}
}

// Process describes a child.
type Process struct {
	Args []string
	Env  []string
	FDs  []int // what 0, 1, 2 and so on are; negative is /dev/null

	group *os.File // the cgroup to begin in; nil for ours
}

// Spawn starts a child in a session of its own; the channel gives how it ended.
func (s *Server) Spawn(p Process) (pid int, ended <-chan syscall.WaitStatus, err error) {
	c := make(chan syscall.WaitStatus, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	pid, err = s.forkLocked(p, func(st wstatus) { c <- st })
	return pid, c, err
}

// forkLocked starts a child. The lock keeps reap from taking it before it is known.
func (s *Server) forkLocked(p Process, ended func(wstatus)) (int, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	fds := make([]uintptr, max(3, len(p.FDs)))
	for i := range fds {
		fds[i] = null.Fd()
		if i < len(p.FDs) && p.FDs[i] >= 0 {
			fds[i] = uintptr(p.FDs[i])
		}
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	if p.group != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(p.group.Fd())
	}
	pid, err := syscall.ForkExec(p.Args[0], p.Args, &syscall.ProcAttr{Env: p.Env, Files: fds, Sys: attr})
	if err != nil {
		return 0, fmt.Errorf("cannot run %s: %w", p.Args[0], err)
	}
	s.children[pid] = ended
	if err := s.left.note(pid, ""); err != nil {
		s.log.Warn("a child is not remembered", "pid", pid, "error", err)
	}
	return pid, nil
}

// mostChanges are kept for watches; one that is further behind begins anew.
const mostChanges = 4096

// tellLocked makes a unit's status known.
func (s *Server) tellLocked(u *unit) {
	s.seq++
	s.recent = append(s.recent, change{s.seq, u.st})
	if len(s.recent) > mostChanges {
		s.recent = slices.Clone(s.recent[mostChanges/2:])
	}
	s.wakeLocked()
}

func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until what holds; ok gets called with mu held.
func (s *Server) await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list is the status of every unit, and how far it goes.
func (s *Server) list() ([]moss.UnitStatus, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]moss.UnitStatus, 0, len(s.units))
	for u := range maps.Values(s.units) {
		all = append(all, u.st)
	}
	slices.SortFunc(all, func(a, b moss.UnitStatus) int { return strings.Compare(a.Short, b.Short) })
	return all, s.seq
}

// Serve answers clients until ctx ends, which closes the listener.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot listen for the daemon: %w", err)
		}
		go func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
			s.answer(ctx, c)
		}()
	}
}

// answer does what one connection asks for. What goes wrong with the connection
// is the client's to see: it asks again.
func (s *Server) answer(ctx context.Context, c *net.UnixConn) {
	var r request
	files, err := receive(c, &r)
	defer func() { closeAll(files) }()
	if err != nil {
		return
	}
	if err := r.check(len(files)); err != nil {
		_ = send(c, failure(err))
		return
	}
	var a answer
	switch r.Op {
	case opWatch:
		s.watch(ctx, c)
		return
	case opList:
		all, seq := s.list()
		_ = sendList(c, all, seq)
		return
	case opState:
		s.mu.Lock()
		a.Seq, a.GoingDown, a.NoGroups = s.seq, s.going, s.groups.why
		s.mu.Unlock()
	case opStart:
		var st moss.UnitStatus
		if st, err = s.start(ctx, r, files); err == nil {
			a.Unit = &st
		}
	case opKill:
		err = s.kill(r.ID, syscall.Signal(r.Signal))
	case opFreeze:
		err = s.freeze(ctx, r.ID.Short(), true)
	case opThaw:
		err = s.freeze(ctx, r.ID.Short(), false)
	case opStop:
		err = s.stop(ctx, r.ID.Short())
	case opHold:
		if err = s.hold(ctx, r, files); err == nil {
			files = nil // they are its own now
		}
	case opRelease:
		err = s.release(r.ID.Short())
	case opHeld:
		a.Held = s.held()
	case opCollect:
		err = s.collect(ctx, r.ID.Short())
	}
	if err != nil {
		a = failure(err)
	}
	_ = send(c, a)
}

// failure tells an error, in a message that is not too long whatever was asked for.
func failure(err error) answer {
	return answer{Class: moss.ClassOf(err), Error: moss.Shown(err.Error())}
}

func sendList(c *net.UnixConn, all []moss.UnitStatus, seq uint64) error {
	for len(all) > listChunk {
		if err := send(c, answer{More: true, List: all[:listChunk]}); err != nil {
			return err
		}
		all = all[listChunk:]
	}
	return send(c, answer{List: all, Seq: seq})
}

// watch tells what there is and what changes, until the client has had enough.
func (s *Server) watch(ctx context.Context, c *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // it says nothing more: this is its end
		var r request
		files, _ := receive(c, &r)
		closeAll(files)
		cancel()
	}()
	all, told := s.list()
	if sendList(c, all, told) != nil {
		return
	}
	for {
		var news []change
		if s.await(ctx, func() bool {
			i, _ := slices.BinarySearchFunc(s.recent, told+1, func(ch change, seq uint64) int { return int(int64(ch.seq) - int64(seq)) })
			news = slices.Clone(s.recent[i:])
			return len(news) > 0
		}) != nil {
			return
		}
		if news[0].seq != told+1 {
			return // too far behind: the client asks anew
		}
		for _, n := range news {
			if send(c, answer{Unit: &n.st, Seq: n.seq}) != nil {
				return
			}
			told = n.seq
		}
	}
}
