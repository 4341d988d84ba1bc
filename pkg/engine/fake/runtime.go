package fake

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var (
	_ engine.Runtime       = (*Runtime)(nil)
	_ engine.ProbeEnder    = (*Runtime)(nil)
	_ engine.LinkRefresher = (*Runtime)(nil)
	_ engine.MountChecker  = (*Runtime)(nil)
	_ engine.GroupKiller   = (*Process)(nil)
)

// Runtime is an OCI runtime in memory. Its containers know a few commands:
// "true", "sh -c 'exit N'", "sleep N" (which runs until it is signalled), "cat",
// and any other plain name except "nope" does what true does.
type Runtime struct {
	// OnPrepare, OnStart and OnDelete, when set, are asked first; their error is the method's.
	OnPrepare func(moss.Bundle) error
	OnStart   func(*moss.Container) error
	OnDelete  func(*moss.Container) error
	// OnExec, when set, says what an exec does instead of the commands above.
	OnExec func(*moss.Exec, moss.ChildStdio) (*Process, error)

	mu         sync.Mutex
	pid        int
	containers map[moss.ContainerID]*runtimeContainer
}

type runtimeContainer struct {
	bundle  moss.Bundle
	failure error
	process *Process // nil until it is created
	started bool
	execs   []*Process
	probes  []*Process // those of them that are health checks
}

// NewRuntime returns a runtime without containers.
func NewRuntime() *Runtime {
	return &Runtime{pid: 2000, containers: map[moss.ContainerID]*runtimeContainer{}}
}

// Prepare implements engine.Runtime.
func (r *Runtime) Prepare(_ context.Context, b moss.Bundle) (moss.Launch, error) {
	if r.OnPrepare != nil {
		if err := r.OnPrepare(b); err != nil {
			return moss.Launch{}, err
		}
	}
	c := b.Container
	switch {
	case c.Host.Runtime != "" && c.Host.Runtime != "moss-runtime":
		return moss.Launch{}, moss.Errorf(moss.Invalid, "unknown or invalid runtime name: %s", c.Host.Runtime)
	case c.Path == "":
		return moss.Launch{}, moss.Errorf(moss.Invalid, "no command specified")
	case c.Config.User == "nosuchuser":
		return moss.Launch{}, moss.Errorf(moss.Invalid, "unable to find user %s: no matching entries in passwd file", c.Config.User)
	}
	if err := r.CheckMounts(c.Mounts); err != nil {
		return moss.Launch{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[c.ID] = &runtimeContainer{bundle: b}
	return moss.Launch{Args: []string{"/bin/fake-runtime", "create", string(c.ID)}, PIDFile: "/run/fake/" + string(c.ID)}, nil
}

// CheckMounts implements engine.MountChecker.
func (r *Runtime) CheckMounts(asked []moss.MountPoint) error {
	for _, m := range asked {
		if m.Type == moss.MountBind && !m.CreateSource {
			if _, err := os.Stat(m.Source); err != nil {
				return moss.Errorf(moss.Invalid, "bind source path does not exist: %s", m.Source)
			}
		}
	}
	return nil
}

// Create does what the command of Prepare does; a fake unit's OnStart may call it.
func (r *Runtime) Create(id moss.ContainerID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[id]
	if c == nil {
		return moss.Errorf(moss.NotFound, "no bundle")
	}
	if err := cannotRun(c.bundle.Container.Path); err != nil {
		c.failure = moss.Errorf(moss.Invalid, "failed to create task for container: OCI runtime create failed: %w", err)
		return fmt.Errorf("exit status 1")
	}
	c.process = r.newProcessLocked()
	return nil
}

// Failure implements engine.Runtime.
func (r *Runtime) Failure(c *moss.Container) error {
	id := c.ID
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c.failure
	}
	return nil
}

// Start implements engine.Runtime. A container whose Create nobody called is
// taken as created: its process is the fake unit's.
func (r *Runtime) Start(_ context.Context, c *moss.Container) error {
	if r.OnStart != nil {
		if err := r.OnStart(c); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rc := r.containers[c.ID]
	if rc == nil {
		return moss.Wrap(moss.Errorf(moss.Conflict, "it is not created"), "start", c.Name)
	}
	if rc.started {
		return moss.Wrap(moss.Errorf(moss.Conflict, "it is running"), "start", c.Name)
	}
	rc.started = true
	if rc.process == nil {
		rc.process = r.newProcessLocked()
		return nil
	}
	rc.process.run(append([]string{rc.bundle.Container.Path}, rc.bundle.Container.Args...), moss.ChildStdio{})
	return nil
}

// Delete implements engine.Runtime.
func (r *Runtime) Delete(_ context.Context, c *moss.Container) error {
	if r.OnDelete != nil {
		if err := r.OnDelete(c); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rc := r.containers[c.ID]
	if rc == nil {
		return nil
	}
	delete(r.containers, c.ID)
	for _, p := range append(rc.execs, rc.process) {
		if p != nil {
			p.Exit(128 + int(syscall.SIGKILL))
		}
	}
	return nil
}

// Exec implements engine.Runtime.
func (r *Runtime) Exec(_ context.Context, c *moss.Container, e *moss.Exec, io moss.ChildStdio) (moss.Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rc := r.containers[c.ID]
	if rc == nil || !rc.started {
		return nil, moss.Wrap(moss.Errorf(moss.Conflict, "the container is not running"), "exec in", c.Name)
	}
	if r.OnExec != nil {
		p, err := r.OnExec(e, io)
		if err != nil {
			return nil, err
		}
		rc.add(e, p)
		return p, nil
	}
	if len(e.Config.Cmd) == 0 {
		return nil, moss.Errorf(moss.Invalid, "No exec command specified")
	}
	if err := cannotRun(e.Config.Cmd[0]); err != nil {
		return nil, moss.Errorf(moss.Invalid, "OCI runtime exec failed: exec failed: %w", err)
	}
	p := r.newProcessLocked()
	rc.add(e, p)
	p.run(e.Config.Cmd, io)
	return p, nil
}

func (c *runtimeContainer) add(e *moss.Exec, p *Process) {
	c.execs = append(c.execs, p)
	if e.Probe {
		c.probes = append(c.probes, p)
	}
}

// EndProbes implements engine.ProbeEnder.
func (r *Runtime) EndProbes(_ context.Context, id moss.ContainerID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		for _, p := range c.probes {
			p.Exit(128 + int(syscall.SIGKILL))
		}
		c.probes = nil
	}
	return nil
}

// RefreshLinks implements engine.LinkRefresher.
func (r *Runtime) RefreshLinks(_ context.Context, b moss.Bundle, links []moss.LinkedHost) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[b.Container.ID]
	if c == nil {
		return nil
	}
	next := slices.Clone(c.bundle.Links)
	for _, l := range links {
		next = slices.DeleteFunc(next, func(o moss.LinkedHost) bool { return o.Names[0] == l.Names[0] })
		if len(l.Addresses) > 0 {
			next = append(next, l)
		}
	}
	c.bundle.Links = next
	return nil
}

// Containers names the containers that have a bundle.
func (r *Runtime) Containers() []moss.ContainerID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []moss.ContainerID
	for id := range r.containers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Bundle is what a container was last prepared with.
func (r *Runtime) Bundle(id moss.ContainerID) (moss.Bundle, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c.bundle, true
	}
	return moss.Bundle{}, false
}

// Process is the container's process, nil before Create or Start.
func (r *Runtime) Process(id moss.ContainerID) *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c.process
	}
	return nil
}

// Execs are the processes that were run in a container.
func (r *Runtime) Execs(id moss.ContainerID) []*Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return slices.Clone(c.execs)
	}
	return nil
}

func (r *Runtime) newProcessLocked() *Process {
	r.pid++
	return NewProcess(r.pid)
}

func cannotRun(path string) error {
	switch path {
	case "nope":
		return moss.Errorf(moss.Invalid, `exec: "nope": executable file not found in $PATH: unknown`)
	case "/nope":
		return moss.Errorf(moss.Invalid, `exec: "/nope": stat /nope: no such file or directory: unknown`)
	case "/etc/passwd":
		return moss.Errorf(moss.Invalid, `exec: "/etc/passwd": permission denied: unknown`)
	}
	return nil
}

// Process is a process in memory. It runs until Exit or a signal.
type Process struct {
	pid  int
	once sync.Once
	done chan struct{}
	code int
}

// NewProcess returns a running process.
func NewProcess(pid int) *Process { return &Process{pid: pid, done: make(chan struct{})} }

// PID implements moss.Process.
func (p *Process) PID() int { return p.pid }

// Ended says whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait implements moss.Process.
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.code, nil
	default:
	}
	select {
	case <-p.done:
		return p.code, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Signal implements moss.Process; every signal ends the process.
func (p *Process) Signal(sig syscall.Signal) error {
	p.Exit(128 + int(sig))
	return nil
}

// KillGroup implements engine.GroupKiller.
func (p *Process) KillGroup() error { return p.Signal(syscall.SIGKILL) }

// Exit ends the process; only the first call counts.
func (p *Process) Exit(code int) {
	p.once.Do(func() { p.code = code; close(p.done) })
}

// run does what a command does. The files in io are the caller's to close, so
// cat works on duplicates.
func (p *Process) run(command []string, io moss.ChildStdio) {
	switch {
	case command[0] == "sleep":
	case command[0] == "cat":
		go p.cat(dup(io.Stdin), dup(io.Stdout))
	case len(command) == 3 && command[0] == "sh" && strings.HasPrefix(command[2], "exit "):
		code, err := strconv.Atoi(strings.TrimPrefix(command[2], "exit "))
		if err != nil {
			code = 2
		}
		p.Exit(code)
	default:
		p.Exit(0)
	}
}

func (p *Process) cat(in, out *os.File) {
	code := 0
	if in != nil && out != nil {
		if _, err := io.Copy(out, in); err != nil {
			code = 1
		}
	}
	for _, f := range []*os.File{in, out} {
		if f != nil {
			_ = f.Close() // the end of a fake
		}
	}
	p.Exit(code)
}

func dup(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}
