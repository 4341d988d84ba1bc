package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
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

// serve answers one connection.
func (s *supervisor) serve(conn *net.UnixConn) {
	defer conn.Close()
	req, files, err := receive(conn)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	var ans rig.Note
	if err == nil {
		err = s.answer(conn, req, files)
	}
	if exit, ok := errors.AsType[*rig.ExitError](err); ok {
		ans.Exit = exit.Code
	} else if err != nil {
		ans.Error = err.Error()
	}
	b, _ := json.Marshal(ans) // a struct of ints and strings always marshals
	conn.Write(b)
	if req.Verb == rig.Down && s.isFirst(req.Rig) && err == nil {
		close(s.quit)
	}
}

func (s *supervisor) isFirst(name string) bool { return name == "" || name == s.first }

func (s *supervisor) answer(conn *net.UnixConn, req rig.Request, files []*os.File) error {
	if req.Verb == rig.Boot {
		if err := rig.CheckName(req.Rig); err != nil {
			return err
		}
		if _, err := s.find(req.Rig); err == nil {
			return fmt.Errorf("rig %q is up", req.Rig)
		}
		_, err := s.add(req.Rig)
		return err
	}
	m, err := s.find(req.Rig)
	if err != nil {
		return err
	}
	switch req.Verb {
	case rig.Run:
		return s.run(conn, m, req, files)
	case rig.Reboot:
		if err := m.halt(); err != nil {
			return err
		}
		return m.boot()
	case rig.Down:
		if s.isFirst(req.Rig) {
			return s.stop()
		}
		s.mu.Lock()
		delete(s.rigs, req.Rig)
		s.mu.Unlock()
		return m.release()
	}
	return fmt.Errorf("no verb %q", req.Verb)
}

// receive reads the request and the descriptors that came with it.
func receive(conn *net.UnixConn) (req rig.Request, files []*os.File, err error) {
	buf, oob := make([]byte, 256<<10), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return req, nil, err
	}
	fds, err := rights.Received(oob[:oobn])
	if err != nil {
		return req, nil, err
	}
	for _, fd := range fds {
		files = append(files, os.NewFile(uintptr(fd), "passed"))
	}
	return req, files, json.Unmarshal(buf[:n], &req)
}

// run starts a command as a service of the rig's systemd, so that it is a
// process of the rig in every way: its cgroup, its parent, its end.
func (s *supervisor) run(conn *net.UnixConn, m *machine, req rig.Request, files []*os.File) error {
	l, err := m.current()
	if err != nil {
		return err
	}
	want := 3
	if req.Upload {
		want = 4
	}
	if len(files) != want || len(req.Argv) == 0 {
		return fmt.Errorf("a run needs %d descriptors and a command", want)
	}
	id := s.runs.Add(1)
	if req.Upload {
		name := fmt.Sprintf("%d-%s", id, filepath.Base(req.Argv[0]))
		at := filepath.Join(m.dir, "share/bin", name)
		if err := upload(files[3], at); err != nil {
			return err
		}
		defer os.Remove(at)
		req.Argv[0] = filepath.Join(rigDir, "bin", name)
	}
	unit := fmt.Sprintf("rig-%d.service", id)
	ctx := context.Background()
	out, err := nsenter(ctx, l, "id", "-u", user).Output()
	if err != nil {
		return fmt.Errorf("cannot ask for the user: %w", err)
	}
	cmd := nsenter(ctx, l, systemdRun(unit, strings.TrimSpace(string(out)), req)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { s.listen(conn, l, unit, ended) })
	err = cmd.Wait()
	close(ended)
	conn.CloseRead()
	watch.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code := exit.ExitCode()
		if code < 0 { // systemd-run itself was killed: the rig went
			code = 128 + int(unix.SIGKILL)
		}
		return &rig.ExitError{Code: code}
	}
	return err
}

// listen passes signals on to a unit and kills it when the client hangs up.
func (s *supervisor) listen(conn *net.UnixConn, l *life, unit string, ended <-chan struct{}) {
	buf := make([]byte, 1024)
	for {
		n, err := conn.Read(buf)
		select {
		case <-ended:
			return
		default:
		}
		sig := rig.Note{Signal: int(unix.SIGKILL)}
		if err == nil && json.Unmarshal(buf[:n], &sig) != nil {
			continue
		}
		kill := nsenter(context.Background(), l, "systemctl", "kill", "--signal="+strconv.Itoa(sig.Signal), unit)
		if err != nil || sig.Signal == int(unix.SIGKILL) {
			kill.Run() // gone already is as good
			return
		}
		kill.Args = append(kill.Args, "--kill-who=main")
		kill.Run()
	}
}

func systemdRun(unit, uid string, req rig.Request) []string {
	args := []string{
		"systemd-run", "--quiet", "--wait", "--collect", "--unit=" + unit, "--service-type=exec",
		"--property=Delegate=yes", "--property=OOMPolicy=continue", "--property=TasksMax=infinity",
		"--property=TimeoutStopSec=5",
	}
	if req.TTY {
		args = append(args, "--pty")
	} else {
		args = append(args, "--pipe")
	}
	dir := req.Dir
	env := []string{"PATH=" + srcDir + "/bin:" + srcDir + "/bin/tools:" + path, rig.SocketEnv + "=" + rigDir + "/sock", "MOSS_BIN=" + srcDir + "/bin"}
	if !req.Root {
		run := "/run/user/" + uid
		args = append(args, "--uid="+user)
		env = append(env, "HOME=/home/"+user, "XDG_RUNTIME_DIR="+run, "DBUS_SESSION_BUS_ADDRESS=unix:path="+run+"/bus")
		if dir == "" {
			dir = "/home/" + user
		}
		if !req.Upload {
			env = append(env, "DOCKER_HOST=unix://"+run+"/moss/moss.sock")
		}
	}
	if dir != "" {
		args = append(args, "--working-directory="+dir)
	}
	for _, kv := range append(env, req.Env...) {
		args = append(args, "--setenv="+kv)
	}
	args = append(args, "--")
	for _, a := range req.Argv {
		// The manager would put its own variables in.
		args = append(args, strings.ReplaceAll(a, "$", "$$"))
	}
	return args
}

func upload(from *os.File, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
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
