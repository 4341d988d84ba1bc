package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/moss-containers/moss/pkg/moss"
)

// Names in a bundle.
const (
	configFile = "config.json"
	pidFile    = "pid"
	createLog  = "create.log"
	commandLog = "command.log"
)

// Prepare writes the bundle and returns the command that creates the container.
func (r *Runtime) Prepare(ctx context.Context, b moss.Bundle) (moss.Launch, error) {
	launch, err := r.prepare(b)
	return launch, moss.Wrap(err, "prepare", b.Container.Name)
}

func (r *Runtime) prepare(b moss.Bundle) (moss.Launch, error) {
	id := b.Container.ID
	if err := r.known(b.Container.Host.Runtime); err != nil {
		return moss.Launch{}, err
	}
	if h := b.Container.Host; !r.ours(h.Runtime) {
		other, _ := r.other(h.Runtime)
		if err := checkGroups(h, other.Path); err != nil {
			return moss.Launch{}, err
		}
		if a, err := h.Activation(); err == nil && a != nil && a.Listen {
			return moss.Launch{}, moss.Errorf(moss.NotImplemented, "the runtime %s is passed no sockets (%s): use moss-runtime", h.Runtime, moss.AnnotationListen)
		}
	}
	accounts, err := readAccounts(b.Rootfs.Path)
	if err != nil {
		return moss.Launch{}, err
	}
	env := r.env
	if b.Container.Host.Privileged {
		// Devices come and go.
		if env.Devices, err = devices("/dev"); err != nil {
			return moss.Launch{}, fmt.Errorf("cannot list the devices: %w", err)
		}
	}
	if err := checkDevices(b.Container.Host.Devices); err != nil {
		return moss.Launch{}, err
	}
	b.Shm = r.sharedShm(b)
	spec, err := Spec(b, accounts, env)
	if err != nil {
		return moss.Launch{}, err
	}
	if err := checkSources(b.Container.Mounts); err != nil {
		return moss.Launch{}, err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return moss.Launch{}, err
	}
	// What an earlier run left must not be taken for this one's.
	if err := r.clear(id); err != nil {
		return moss.Launch{}, fmt.Errorf("cannot clear the bundle: %w", err)
	}
	if err := os.MkdirAll(r.bundle(id), 0o700); err != nil {
		return moss.Launch{}, fmt.Errorf("cannot make the bundle: %w", err)
	}
	if err := r.makeShm(b); err != nil {
		return moss.Launch{}, err
	}
	if err := writeFiles(b); err != nil {
		return moss.Launch{}, err
	}
	if err := writeFile(r.file(id, configFile), data, 0o600); err != nil {
		return moss.Launch{}, err
	}
	return r.launch(b), nil
}

func (r *Runtime) launch(b moss.Bundle) moss.Launch {
	id := b.Container.ID
	l := moss.Launch{PIDFile: r.file(id, pidFile)}
	l.Args = r.args(&b.Container, createLog, "create", "--bundle", r.bundle(id), "--pid-file", l.PIDFile)
	if b.ConsoleSocket != "" {
		l.Args = append(l.Args, "--console-socket", b.ConsoleSocket)
	}
	if a, err := b.Container.Host.Activation(); err == nil && a != nil && a.Listen {
		l.Args = append(l.Args, "--listen-fds", moss.EntrySocket(r.cfg.EntrySockets, id))
	}
	l.Args = append(l.Args, string(id))
	if !r.ours(b.Container.Host.Runtime) {
		l.Args = append([]string{r.cfg.Binary, "launch"}, l.Args...)
	}
	l.Env = []string{oneProcessor}
	if r.cfg.Join != "" {
		l.Env = append(l.Env, joinEnv+"="+r.cfg.Join)
	}
	return l
}

// CheckMounts looks for the sources of binds that are not to be made, as docker
// does when a container is created. They are looked for at each start, too.
func (r *Runtime) CheckMounts(asked []moss.MountPoint) error {
	for _, p := range asked {
		if p.Type != moss.MountBind || p.CreateSource {
			continue
		}
		if _, err := os.Stat(p.Source); errors.Is(err, fs.ErrNotExist) {
			return noSource(p)
		}
	}
	return nil
}

func noSource(p moss.MountPoint) error {
	return moss.Errorf(moss.Invalid, "invalid mount config for type \"bind\": bind source path does not exist: %s", p.Source)
}

// checkSources makes the host directories of binds that may be made and looks
// for the others.
func checkSources(points []moss.MountPoint) error {
	for _, p := range points {
		if p.Type != moss.MountBind {
			continue
		}
		_, err := os.Stat(p.Source)
		switch {
		case errors.Is(err, fs.ErrNotExist) && p.CreateSource:
			if err := os.MkdirAll(p.Source, 0o755); err != nil {
				return moss.Errorf(moss.Invalid, "error while creating mount source path '%s': %w", p.Source, err)
			}
		case errors.Is(err, fs.ErrNotExist):
			return noSource(p)
		case err != nil:
			return moss.Errorf(moss.Invalid, "invalid mount config for type \"bind\": %w", err)
		}
		if err := checkPropagation(p); err != nil {
			return err
		}
	}
	return nil
}

// checkPropagation finds out whether the mount a source is on can propagate as
// asked (mount_namespaces(7)).
func checkPropagation(p moss.MountPoint) error {
	want := strings.TrimPrefix(p.Propagation, "r")
	if want != "shared" && want != "slave" {
		return nil
	}
	source, err := filepath.EvalSymlinks(p.Source)
	if err != nil {
		return moss.Errorf(moss.Invalid, "invalid mount config for type \"bind\": %w", err)
	}
	var on *mountinfo.Info
	infos, err := mountinfo.GetMounts(mountinfo.ParentsFilter(source))
	if err != nil {
		return fmt.Errorf("cannot read the mount table: %w", err)
	}
	for _, m := range infos {
		if on == nil || len(m.Mountpoint) >= len(on.Mountpoint) {
			on = m
		}
	}
	if on == nil {
		return fmt.Errorf("cannot find the mount that %s is on", source)
	}
	shared := strings.Contains(on.Optional, "shared:")
	if shared || want == "slave" && strings.Contains(on.Optional, "master:") {
		return nil
	}
	return moss.Errorf(moss.Invalid, "path %s is mounted on %s but it is not a %s mount; use another propagation than %s",
		p.Source, on.Mountpoint, want, p.Propagation)
}
