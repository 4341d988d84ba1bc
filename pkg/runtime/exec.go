package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// Exec starts a process in the container and returns when it runs. The files of
// io are the process's own; the caller closes them.
func (r *Runtime) Exec(ctx context.Context, c *moss.Container, e *moss.Exec, io moss.ChildStdio) (moss.Process, error) {
	spec, err := r.readSpec(c.ID)
	if err != nil {
		return nil, moss.Wrap(err, "exec in", c.Name)
	}
	accounts, err := readAccounts(spec.Root.Path)
	if err != nil {
		return nil, moss.Wrap(err, "exec in", c.Name)
	}
	proc, err := ExecProcess(c, spec.Process, e.Config, accounts, r.env)
	if err != nil {
		return nil, err
	}
	name := "exec-" + string(e.ID)
	if e.Probe {
		name = probePrefix + string(e.ID) // for EndProbes
	}
	pidFile, keep := r.file(c.ID, name+".pid"), func() {}
	if e.Probe {
		keep = func() { _ = os.Remove(pidFile) } // EndProbes sees that it is nobody's
	}
	pid, err := r.exec(ctx, c, name, proc, io, pidFile)
	if err != nil || !e.Probe {
		err = errors.Join(err, removeAll(pidFile))
	}
	if err != nil {
		return nil, moss.Errorf(moss.ClassOf(err), "OCI runtime exec failed: exec failed: %w", err)
	}
	return newChild(pid, keep)
}

// exec runs the runtime's exec and returns the pid of the process, which is now
// a child of this one.
func (r *Runtime) exec(ctx context.Context, c *moss.Container, name string, proc *specs.Process, io moss.ChildStdio, pidFile string) (pid int, err error) {
	if err := r.known(c.Host.Runtime); err != nil {
		return 0, err
	}
	id := c.ID
	processFile, log := r.file(id, name+".json"), name+".log"
	defer func() { err = errors.Join(err, removeAll(processFile, r.file(id, log))) }()
	data, err := json.Marshal(proc)
	if err != nil {
		return 0, err
	}
	if err := writeFile(processFile, data, 0o600); err != nil {
		return 0, err
	}
	command := []string{"exec", "--detach", "--process", processFile, "--pid-file", pidFile}
	if io.ConsoleSocket != "" {
		command = append(command, "--console-socket", io.ConsoleSocket)
	}
	args := r.args(c, log, append(command, string(id))...)
	if !r.ours(c.Host.Runtime) {
		args = append([]string{r.cfg.Binary, attend}, args...)
	}
	// A runtime killed half-way, because a client went away, could leave a
	// process that nobody knows.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), args[0], args[1:]...)
	setStdio(cmd, io)
	if err := finish(cmd, r.file(id, log)); err != nil {
		if moss.ClassOf(err) == moss.Internal && r.over(id) {
			return 0, moss.Errorf(moss.Conflict, "the container is not running any more: %w", err)
		}
		if c.IDMaps != nil && strings.Contains(err.Error(), "error executing setns process") {
			// It enters the user namespace first, and may then not enter a network that belongs to the engine's.
			return 0, moss.Errorf(moss.NotImplemented, "%w: the runtime %s cannot enter a user namespace without a network of its own, as runc before 1.2: use moss-runtime or crun, or --network host", err, c.Host.Runtime)
		}
		return 0, err
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, fmt.Errorf("the runtime wrote no pid: %w", err)
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("the runtime wrote no pid: %w", err)
	}
	return pid, nil
}

// over says whether a container has no process any more, or not even a bundle.
func (r *Runtime) over(id moss.ContainerID) bool {
	pid, err := r.pid(id)
	return errors.Is(err, fs.ErrNotExist) || err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// setStdio hands the files that are there to the command; the others are
// /dev/null. Nothing is copied, so nothing is left to wait for.
func setStdio(cmd *exec.Cmd, io moss.ChildStdio) {
	// A nil *os.File in an interface is not nil.
	if io.Stdin != nil {
		cmd.Stdin = io.Stdin
	}
	if io.Stdout != nil {
		cmd.Stdout = io.Stdout
	}
	if io.Stderr != nil {
		cmd.Stderr = io.Stderr
	}
}

func removeAll(paths ...string) error {
	var errs []error
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// execBase is what exec needs of a bundle's configuration.
type execBase struct {
	Process *specs.Process `json:"process"`
	Root    *specs.Root    `json:"root"`
}

func (r *Runtime) readSpec(id moss.ContainerID) (execBase, error) {
	var b execBase
	data, err := os.ReadFile(r.file(id, configFile))
	if errors.Is(err, fs.ErrNotExist) {
		return b, moss.Errorf(moss.Conflict, "the container is not running")
	}
	if err != nil {
		return b, err
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return b, fmt.Errorf("cannot read the bundle: %w", err)
	}
	if b.Process == nil || b.Process.Capabilities == nil || b.Root == nil {
		return b, errors.New("cannot read the bundle: it has no process or no root")
	}
	return b, nil
}

// ExecProcess is the process of an exec in a container: the container's own,
// own, with the exec's choices laid over. It is a pure function.
func ExecProcess(c *moss.Container, own *specs.Process, e moss.ExecConfig, a Accounts, env Environment) (*specs.Process, error) {
	if len(e.Cmd) == 0 {
		return nil, moss.Errorf(moss.Invalid, "No exec command specified")
	}
	ids := env.IDs
	if c.IDMaps != nil {
		ids = min(moss.IDsFromZero(c.IDMaps.UIDs), moss.IDsFromZero(c.IDMaps.GIDs))
	}
	name := e.User
	if name == "" {
		name = c.Config.User
	}
	who, home, err := a.account(c.Host, name, ids)
	if err != nil {
		return nil, err
	}
	who.Umask = own.User.Umask
	p := *own
	p.Args, p.User = e.Cmd, who
	p.Terminal, p.ConsoleSize = e.TTY, consoleSize(e.TTY, e.ConsoleSize)
	if e.WorkingDir != "" {
		p.Cwd = path.Join("/", e.WorkingDir)
	}
	config := c.Config
	config.TTY = e.TTY
	config.Env = append(append([]string{}, c.Config.Env...), e.Env...)
	p.Env = environ(config, home)
	caps := own.Capabilities.Bounding
	if e.Privileged {
		caps = env.Capabilities
	}
	p.Capabilities = processCapabilities(caps, who)
	p.OOMScoreAdj = nil // the runtime takes the container's
	return &p, nil
}
