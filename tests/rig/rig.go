// Package rig is the client of the test rig: real systemd, booted in
// namespaces on a machine that has none (see docs/HACKING.md).
//
// A rig is held by a supervisor running as root (tests/rig/rigd, built as
// bin/rig). Everyone else talks to it over a unix packet socket: one request
// with standard input, output and error attached as descriptors, then signals
// one way and the exit status the other. Hanging up kills what was started,
// so nothing outlives a client that crashed.
//
// The socket is also there inside the rig, so a test running in one rig can
// boot a second one, act in it and reboot it.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// SocketEnv names the variable that holds the path of the supervisor's socket
// for programs inside a rig.
const SocketEnv = "MOSS_RIG_SOCKET"

// Base is the directory on the host below which each rig has its own.
const Base = "/var/tmp/moss-rig"

// Verb says what a request asks for.
type Verb string

// The verbs a supervisor answers.
const (
	Run    Verb = "run"    // a command in a running rig
	Boot   Verb = "boot"   // a further rig, which goes when the first one does
	Reboot Verb = "reboot" // kill every process of a rig and boot it again over the same /home
	Down   Verb = "down"   // end a rig and remove all of it
)

// Request is the first message of a connection.
type Request struct {
	Verb Verb
	Rig  string   // which rig; empty is the supervisor's first one
	Root bool     // run as root of the rig, not as its user
	Argv []string // Argv[0] is looked up in the rig
	Dir  string   // working directory in the rig; empty is the user's home
	Env  []string // on top of the rig's own
	TTY  bool     // standard input and output are a terminal
	// Upload says that a fourth descriptor holds the executable to run in
	// place of Argv[0].
	Upload bool
}

// Note is every later message: a signal to the supervisor, or its answer.
type Note struct {
	Signal int    `json:",omitempty"`
	Exit   int    `json:",omitempty"`
	Error  string `json:",omitempty"`
}

// ExitError is a command in the rig that ended with a status other than 0.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)

// CheckName refuses names that do not fit a directory, a cgroup and a unit.
func CheckName(name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("rig name %q must match %s", name, nameRE)
	}
	return nil
}

// Socket is the path of a rig's socket on the host.
func Socket(name string) string { return filepath.Join(Base, name, "share", "sock") }

// Do sends one request to the supervisor at socket and waits for its answer.
// While it waits, signals that arrive on sigs are passed on; ctx ending hangs
// up, which kills the command.
func Do(ctx context.Context, socket string, req Request, files []*os.File, sigs <-chan os.Signal) error {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("cannot reach the rig: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	msg, err := json.Marshal(req)
	if err != nil {
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if _, _, err := conn.WriteMsgUnix(msg, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("cannot send to the rig: %w", err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-sigs:
				if n, ok := s.(syscall.Signal); ok {
					b, _ := json.Marshal(Note{Signal: int(n)}) // a struct of ints and strings always marshals
					conn.Write(b)
				}
			case <-done:
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	n, err := conn.Read(buf)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("the rig hung up: %w", err)
	}
	var ans Note
	if err := json.Unmarshal(buf[:n], &ans); err != nil {
		return fmt.Errorf("cannot read the rig's answer: %w", err)
	}
	switch {
	case ans.Error != "":
		return errors.New(ans.Error)
	case ans.Exit != 0:
		return &ExitError{Code: ans.Exit}
	}
	return nil
}

// Forwarded starts delivering the signals a wrapper should pass on.
func Forwarded() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// Machine is a rig that a test has to itself.
type Machine struct {
	Name   string
	socket string
}

// TB is what New needs of a *testing.T.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Skip(...any)
	Fatal(...any)
	Log(...any)
}

// New boots a rig for one test and takes it down at the test's end. On a
// machine where the tests run without a rig there is none to ask: the test is
// skipped.
func New(t TB, name string) *Machine {
	t.Helper()
	socket := os.Getenv(SocketEnv)
	if socket == "" {
		t.Skip("needs a machine of its own to reboot: run the tests in the rig (make test RIG=1)")
	}
	m := &Machine{Name: name, socket: socket}
	if err := m.do(t.Context(), Request{Verb: Boot, Rig: name}); err != nil {
		t.Fatal("cannot boot rig:", err)
	}
	t.Cleanup(func() {
		if err := m.do(context.Background(), Request{Verb: Down, Rig: name}); err != nil {
			t.Log("cannot take the rig down:", err)
		}
	})
	return m
}

// Reboot kills every process of the rig, systemd first, and boots it again.
// Only /home is the same afterwards.
func (m *Machine) Reboot(ctx context.Context) error {
	return m.do(ctx, Request{Verb: Reboot, Rig: m.Name})
}

// User runs a shell command as the rig's user and returns its standard output
// and error together.
func (m *Machine) User(ctx context.Context, command string) (string, error) {
	return m.shell(ctx, Request{Verb: Run, Rig: m.Name, Argv: []string{"/bin/bash", "-c", command}})
}

// Root runs a shell command as root of the rig.
func (m *Machine) Root(ctx context.Context, command string) (string, error) {
	return m.shell(ctx, Request{Verb: Run, Rig: m.Name, Root: true, Argv: []string{"/bin/bash", "-c", command}})
}

func (m *Machine) shell(ctx context.Context, req Request) (string, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return "", err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	var out bytes.Buffer
	read := make(chan error, 1)
	go func() { _, err := io.Copy(&out, r); read <- err }()
	err = Do(ctx, m.socket, req, []*os.File{null, w, w}, nil)
	w.Close()
	rerr := <-read
	if err != nil {
		err = fmt.Errorf("%s in rig %q: %w", strings.Join(req.Argv, " "), m.Name, err)
	}
	return out.String(), errors.Join(err, rerr)
}

func (m *Machine) do(ctx context.Context, req Request) error {
	return Do(ctx, m.socket, req, nil, nil)
}
