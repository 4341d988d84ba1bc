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
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/rights"
	"github.com/moss-containers/moss/tests/rig"
)

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
