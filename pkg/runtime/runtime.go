package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// DefaultName is the runtime's name in a container's configuration.
const DefaultName = "moss-runtime"

// joinEnv makes the launcher join the holder's namespaces (package userns).
const joinEnv = "_MOSS_JOIN"

// oneProcessor keeps the Go run-time of the short-lived launcher small; the
// container does not see it.
const oneProcessor = "GOMAXPROCS=1"

// Config says where everything is. All paths are absolute.
type Config struct {
	Binary  string // moss-runtime
	Root    string // R/runtime, the runtime's own state; another one's has its name behind
	Bundles string // R/bundles
	// Join is the holder's state directory; "" starts the launcher in the caller's own namespaces.
	Join string
	// Others are runtimes that can be chosen, by name, besides moss-runtime and what is installed.
	Others map[string]moss.RuntimePath
	// EntrySockets is where containers whose program takes connections itself get their sockets, see [moss.EntrySocket].
	EntrySockets string
	// Outliving is the cgroup of what is to outlive this process, which the service manager kills along with
	// all in its own: a start of another runtime's, cut short, takes the container along. "" for our own.
	Outliving string
}

// Runtime drives the OCI runtime. Its methods may be called from several
// goroutines.
type Runtime struct {
	cfg    Config
	env    Environment
	others atomic.Pointer[map[string]moss.RuntimePath]
}

// New probes this process, which must already be in the holder's namespaces and
// be a child subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)): execs become its children.
func New(cfg Config) (*Runtime, error) {
	for _, p := range []string{cfg.Binary, cfg.Root, cfg.Bundles} {
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("cannot use the OCI runtime: %q is not an absolute path", p)
		}
	}
	if err := executable(cfg.Binary); err != nil {
		return nil, fmt.Errorf("cannot use the OCI runtime: %w", err)
	}
	env, err := Probe()
	if err != nil {
		return nil, err
	}
	env.Init = cfg.Binary
	if err := os.MkdirAll(cfg.Bundles, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the bundles: %w", err)
	}
	r := &Runtime{cfg: cfg, env: env}
	return r, r.SetOthers(cfg.Others)
}

// SetOthers has other runtimes in the place of those of the configuration. After
// an error they are those of before.
func (r *Runtime) SetOthers(others map[string]moss.RuntimePath) error {
	all := installed()
	for name, o := range others {
		if name == DefaultName {
			return fmt.Errorf("cannot use the runtime %q: the name is moss's own", name)
		}
		o, err := resolveRuntime(name, o)
		if err != nil {
			return err
		}
		all[name] = o
	}
	r.others.Store(&all)
	return nil
}

// other is a runtime besides moss-runtime.
func (r *Runtime) other(name string) (moss.RuntimePath, bool) {
	all := r.others.Load()
	if all == nil {
		return moss.RuntimePath{}, false
	}
	o, ok := (*all)[name]
	return o, ok
}

// Runtimes are the runtimes there are, by name.
func (r *Runtime) Runtimes() map[string]string {
	all := map[string]string{DefaultName: r.cfg.Binary}
	for name, o := range *r.others.Load() {
		all[name] = o.Path
	}
	return all
}

func executable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file", path)
	}
	return nil
}

// Paths of a bundle.
func (r *Runtime) bundle(id moss.ContainerID) string { return filepath.Join(r.cfg.Bundles, string(id)) }

func (r *Runtime) file(id moss.ContainerID, name string) string {
	return filepath.Join(r.bundle(id), name)
}

// Start lets a created container's process go.
func (r *Runtime) Start(ctx context.Context, c *moss.Container) error {
	err := errNotHere
	if r.ours(c.Host.Runtime) {
		err = r.letGo(ctx, c.ID)
	}
	if errors.Is(err, errNotHere) {
		if err = r.run(ctx, c, "start", string(c.ID)); err != nil && r.pastStart(ctx, c) {
			err = moss.Errorf(moss.Conflict, "%w", err)
		}
	}
	return moss.Wrap(err, "start", c.Name)
}

// stateTimeout is how long another runtime may take to tell a container's state.
const stateTimeout = 10 * time.Second

// pastStart says whether a container is not waiting for its start any more: it runs, or it ran.
func (r *Runtime) pastStart(ctx context.Context, c *moss.Container) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateTimeout) // its own: the start may have used up all
	defer cancel()
	args := r.args(c, commandLog, "state", string(c.ID))
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
	var state struct{ Status string }
	return err == nil && json.Unmarshal(out, &state) == nil && state.Status != "" && state.Status != "created" && state.Status != "creating"
}

// Delete removes what the runtime and the bundle keep; nil when nothing is left.
// It kills what still runs.
func (r *Runtime) Delete(ctx context.Context, c *moss.Container) error {
	var errs []error
	if !r.ours(c.Host.Runtime) {
		errs = append(errs, r.deleteOther(ctx, c))
	}
	// The state directory is the runtime's own; that it is there is all we look at.
	if _, err := os.Lstat(filepath.Join(r.cfg.Root, string(c.ID))); !errors.Is(err, fs.ErrNotExist) {
		err := r.forget(c)
		if errors.Is(err, errNotHere) {
			err = r.run(ctx, c, "delete", "--force", string(c.ID))
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		// The bundle stays for the next try.
		return moss.Wrap(err, "delete the runtime's state of", c.Name)
	}
	return moss.Wrap(r.clear(c.ID), "delete the bundle of", c.Name)
}

// run runs a short command of the runtime.
func (r *Runtime) run(ctx context.Context, c *moss.Container, command ...string) error {
	if err := r.known(c.Host.Runtime); err != nil {
		return err
	}
	args := r.args(c, commandLog, command...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = &tail{}
	if command[0] == "start" && r.cfg.Outliving != "" {
		group, err := os.OpenFile(r.cfg.Outliving, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer group.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd())}
	}
	return finish(cmd, r.file(c.ID, commandLog))
}

// finish runs cmd and turns its failure into the last error of its log, or what
// it said on a stderr of ours.
func finish(cmd *exec.Cmd, log string) error {
	// A process that kept our end of a pipe must not keep us.
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), oneProcessor)
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	return failed(cmd, err, log)
}

// failed is why cmd ended with err.
func failed(cmd *exec.Cmd, err error, log string) error {
	if why := translate(lastError(log)); why != nil {
		return why
	}
	if said, ok := cmd.Stderr.(*tail); ok {
		if why := translate(string(said.buf)); why != nil {
			return why
		}
	}
	return fmt.Errorf("%s: %w", filepath.Base(program(cmd.Args)), err)
}

// program is the runtime that a command line of ours runs in the end.
func program(args []string) string {
	if len(args) > 2 && args[1] == attend {
		return args[2]
	}
	return args[0]
}

// tail keeps the last kilobytes written to it.
type tail struct{ buf []byte }

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - tailSize; n > 0 {
		t.buf = bytes.Clone(t.buf[n:])
	}
	return len(p), nil
}
