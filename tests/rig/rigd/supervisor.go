package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/tests/rig"
)

const (
	superviseArg = "__supervise"
	ready        = "ready\n"
)

// supervisor holds one rig and those that were booted from within it.
type supervisor struct {
	first string
	src   string
	calls chan func() // run on the main thread, whose death kills every init
	quit  chan struct{}
	runs  atomic.Int64

	mu   sync.Mutex
	rigs map[string]*machine
}

// supervise is the whole life of the process that holds a rig.
func supervise(name string, rest []string) error {
	s := &supervisor{
		first: name, src: os.Getenv(srcEnv),
		calls: make(chan func()), quit: make(chan struct{}), rigs: map[string]*machine{},
	}
	if s.src == "" {
		s.src = "/var/empty"
		if err := os.MkdirAll(s.src, 0o755); err != nil {
			return err
		}
	}
	unix.Umask(0o022) // the caller's may hide the rig's files from its services
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	ended := make(chan struct{})
	if len(rest) > 0 {
		go func() { awaitDeath(3); close(ended) }()
	}
	up := make(chan error, 1)
	go func() { up <- s.start() }()
	for {
		select {
		case f := <-s.calls:
			f()
			continue
		case err := <-up:
			if err != nil {
				fmt.Fprintln(os.Stdout, err)
				return errors.Join(err, s.stop())
			}
			fmt.Fprint(os.Stdout, ready)
			if err := silence(); err != nil {
				return err
			}
			continue
		case <-sigs:
		case <-ended:
		case <-s.quit:
			return nil
		}
		// The main loop must go on serving: an ending boot may need it.
		go func() {
			if err := s.stop(); err != nil {
				fmt.Fprintln(os.Stderr, "rig:", err)
			}
			close(s.quit)
		}()
		sigs, ended = nil, nil
	}
}

// silence lets go of the streams of whoever called up.
func silence() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return errors.Join(unix.Dup2(int(null.Fd()), 1), unix.Dup2(int(null.Fd()), 2))
}

// awaitDeath returns when the process behind a pidfd has ended.
func awaitDeath(fd int) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, -1); n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return
		}
	}
}

func (s *supervisor) onMain(f func() error) error {
	done := make(chan error, 1)
	s.calls <- func() { done <- f() }
	return <-done
}

func (s *supervisor) start() error {
	if err := sweep(); err != nil {
		fmt.Fprintln(os.Stderr, "rig: sweep:", err)
	}
	m, err := s.add(s.first)
	if err != nil {
		return err
	}
	// The socket grants root in the rig: only the caller may pass this
	// directory.
	if err := os.Chmod(m.dir, 0o700); err != nil {
		return err
	}
	if uid, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil {
		if err := os.Chown(m.dir, uid, -1); err != nil {
			return err
		}
	}
	path := rig.Socket(s.first)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return nil
}

// add boots a further rig under a short name.
func (s *supervisor) add(name string) (*machine, error) {
	full := s.first
	if name != s.first {
		full += "-" + name
	}
	if err := rig.CheckName(full); err != nil {
		return nil, err
	}
	m, err := claim(full, s.src, s.onMain)
	if err != nil {
		return nil, err
	}
	if err := m.boot(); err != nil {
		return nil, errors.Join(err, m.release())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rigs[name] = m
	return m, nil
}

func (s *supervisor) find(name string) (*machine, error) {
	if name == "" {
		name = s.first
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.rigs[name]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("no rig %q", name)
}

// stop takes every rig down.
func (s *supervisor) stop() error {
	s.mu.Lock()
	rigs := s.rigs
	s.rigs = map[string]*machine{}
	s.mu.Unlock()
	var err error
	if rigs[s.first] != nil {
		// Gone first: who finds no socket knows that nothing is up.
		if err = os.Remove(rig.Socket(s.first)); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	for _, m := range rigs {
		err = errors.Join(err, m.release())
	}
	return err
}

// down ends a rig; where its supervisor is dead it clears what is left.
func down(name string) error {
	err := rig.Do(context.Background(), socket(name), rig.Request{Verb: rig.Down, Rig: name}, nil, nil)
	if err == nil || os.Geteuid() != 0 || os.Getenv(rig.SocketEnv) != "" {
		return err
	}
	if _, serr := os.Stat(rig.Socket(name)); serr == nil {
		if conn, derr := net.Dial("unixpacket", rig.Socket(name)); derr == nil {
			conn.Close()
			return err
		}
	}
	m, err := claim(name, "", nil)
	if err != nil {
		return err
	}
	return m.release()
}

// sweep removes every rig whose supervisor is dead.
func sweep() error {
	if os.Geteuid() != 0 {
		return errors.New("sweep needs root")
	}
	locks, err := filepath.Glob(filepath.Join(rig.Base, "*.lock"))
	for _, l := range locks {
		name := strings.TrimSuffix(filepath.Base(l), ".lock")
		f, lerr := os.Open(l)
		if lerr != nil {
			continue
		}
		free := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		f.Close()
		if !free || rig.CheckName(name) != nil {
			continue
		}
		m, cerr := claim(name, "", nil)
		if cerr == nil {
			cerr = m.release()
		}
		err = errors.Join(err, cerr)
	}
	return err
}
