package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/moss-containers/moss/pkg/moss"
)

// Other runtimes are driven by their command line alone. They do not enter the
// holder's namespaces themselves and want a cgroup of their own: moss-runtime's
// launch does both and becomes the other one; its attend takes along what their exec
// leaves. What moss knows of moss-runtime's
// state directory, it does not know of theirs.

// attend is the command of moss-runtime that runs another one's exec.
const attend = "attend"

// usual are runtimes that can be chosen wherever they are installed.
var usual = []string{"crun", "runc"}

// installed are the usual ones that are there.
func installed() map[string]moss.RuntimePath {
	all := make(map[string]moss.RuntimePath)
	for _, name := range usual {
		for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/sbin", "/usr/local/bin") {
			if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable(path) == nil {
				all[name] = moss.RuntimePath{Path: path}
				break
			}
		}
	}
	return all
}

// resolveRuntime finds the program of one that is set.
func resolveRuntime(name string, r moss.RuntimePath) (moss.RuntimePath, error) {
	if r.Path == "" {
		return r, fmt.Errorf("cannot use the runtime %q: it has no path", name)
	}
	path, err := exec.LookPath(r.Path)
	if err != nil {
		return r, fmt.Errorf("cannot use the runtime %q: %w", name, err)
	}
	if r.Path, err = filepath.Abs(path); err != nil {
		return r, err
	}
	return r, nil
}

// ours says whether a container's runtime is moss-runtime.
func (r *Runtime) ours(name string) bool {
	return name == "" || name == DefaultName || name == r.cfg.Binary
}

// root is where a runtime keeps its state.
func (r *Runtime) root(name string) string {
	if r.ours(name) {
		return r.cfg.Root
	}
	return r.cfg.Root + "-" + name
}

// known says whether a container's runtime is there.
func (r *Runtime) known(name string) error {
	if _, ok := r.other(name); ok || r.ours(name) {
		return nil
	}
	return moss.Errorf(moss.Invalid, "unknown or invalid runtime name: %s", name)
}

// args is a command line of a container's runtime; log is a file in the bundle.
func (r *Runtime) args(c *moss.Container, log string, command ...string) []string {
	name := c.Host.Runtime
	args := []string{r.cfg.Binary}
	if !r.ours(name) {
		o, _ := r.other(name)
		args = append([]string{o.Path}, o.Args...)
	}
	args = append(args, "--root", r.root(name), "--log", r.file(c.ID, log), "--log-format", "json")
	return append(args, command...)
}

// deleteOther removes what another runtime keeps of a container. Where it is
// not there any more, its files are all that is left: the unit ends the processes.
func (r *Runtime) deleteOther(ctx context.Context, c *moss.Container) error {
	dir := filepath.Join(r.root(c.Host.Runtime), string(c.ID))
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if r.known(c.Host.Runtime) == nil {
		if err := r.run(ctx, c, "delete", "--force", string(c.ID)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
