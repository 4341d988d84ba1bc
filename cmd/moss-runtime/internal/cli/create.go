package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/utils"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/bundle"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/filter"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/forward"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/process"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

// creation are the flags create and run share.
type creation struct {
	root, id, bundle       string
	pidFile, consoleSocket string
	preserveFDs            int
	listen                 string
	opts                   bundle.Options
}

func creationFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "directory of the bundle", Value: "."},
		&cli.StringFlag{Name: "console-socket", Usage: "unix socket that is sent the terminal's master"},
		&cli.StringFlag{Name: "pid-file", Usage: "file the process id is written to"},
		&cli.IntFlag{Name: "preserve-fds", Usage: "hand this many descriptors from 3 upwards on"},
		&cli.StringFlag{Name: "listen-fds", Usage: "unix socket where listening sockets for the process are to be had, see sd_listen_fds(3)"},
		&cli.BoolFlag{Name: "no-pivot", Usage: "chroot instead of pivot_root (for a rootfs on a ramdisk)"},
		&cli.BoolFlag{Name: "no-new-keyring", Usage: "keep the caller's session keyring"},
	}
}

func createCommand() *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "create a container; its process waits for start",
		ArgsUsage: "CONTAINER",
		Flags:     creationFlags(),
		Action: func(c *cli.Context) error {
			cr, err := newCreation(c)
			if err != nil {
				return err
			}
			if _, err := cr.create(nil); err != nil {
				return fmt.Errorf("cannot create container %q: %w", cr.id, err)
			}
			return nil
		},
	}
}

func newCreation(c *cli.Context) (*creation, error) {
	id, err := argID(c)
	if err != nil {
		return nil, err
	}
	cr := &creation{
		id:          id,
		bundle:      c.String("bundle"),
		preserveFDs: c.Int("preserve-fds"),
		opts:        bundle.Options{ID: id, NoPivot: c.Bool("no-pivot"), NoNewKeyring: c.Bool("no-new-keyring")},
	}
	var errs [4]error
	cr.root, errs[0] = root(c)
	cr.pidFile, errs[1] = absFlag(c, "pid-file")
	cr.consoleSocket, errs[2] = absFlag(c, "console-socket")
	cr.listen, errs[3] = absFlag(c, "listen-fds")
	if cr.listen != "" && cr.preserveFDs > 0 {
		return nil, errors.New("--listen-fds and --preserve-fds want the same descriptors")
	}
	return cr, errors.Join(errs[:]...)
}

// foreground is what run adds: a terminal served by this process.
type foreground struct{ terminal *process.Terminal }

// create brings the container to the point where its process waits at the
// fifo, and writes record and pid file. On error nothing of it is left.
// fg is nil unless this process stays with the container.
func (cr *creation) create(fg *foreground) (*libcontainer.Process, error) {
	if err := needHome(); err != nil {
		return nil, err
	}
	dir, err := record.Dir(cr.root, cr.id)
	if err != nil {
		return nil, err
	}
	if !cr.opts.NoNewKeyring && process.KeyringsUsedUp() {
		logrus.Warn("the user's kernel keys are used up (kernel.keys.maxkeys): the container keeps the session keyring it has")
		cr.opts.NoNewKeyring = true
	}
	cfg, err := bundle.Load(cr.bundle, cr.opts)
	if err != nil {
		return nil, err
	}
	profile, err := filter.ForRoot(cr.root).Profile(cfg.Seccomp)
	if err != nil {
		return nil, fmt.Errorf("cannot use the bundle: linux.seccomp: %w", err)
	}
	cfg.Config.Seccomp = profile.Config
	lp, err := process.New(cfg.Spec.Process)
	if err != nil {
		return nil, err
	}
	lp.Init = true
	closer, err := attach(lp, cfg.Spec.Process.Terminal, fg, cr.consoleSocket, cr.preserveFDs)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	var entry *forward.Entry
	if cr.listen != "" {
		if entry, err = forward.Take(cr.listen); err != nil {
			return nil, err
		}
		defer entry.Close()
		lp.ExtraFiles, lp.Env = entry.Files, entry.Environment(lp.Env)
	}
	if err := process.StartSmall(); err != nil {
		return nil, err
	}
	if err := process.AdoptOOMScore(cfg.Spec.Process.OOMScoreAdj); err != nil {
		return nil, err
	}
	if err := cfg.ApplyResources(); err != nil {
		return nil, err
	}
	// A cgroup that this process goes on living in is never the container's own.
	own := fg == nil
	if own && cfg.Inherited {
		if own, err = cgroup.Alone(cfg.Cgroup, os.Getpid()); err != nil {
			return nil, err
		}
	}
	container, err := libcontainer.Create(cr.root, cr.id, cfg.Config)
	if err != nil {
		return nil, err
	}
	if cfg.KeepsGroups() {
		// libcontainer sets no groups then, in the init and in execs later. It must come after
		// Create, which takes it for the sign that there has to be a user namespace to make.
		cfg.RootlessEUID = true
	}
	if err := profile.Start(container, lp, dir); err != nil {
		return nil, errors.Join(err, container.Destroy())
	}
	if entry != nil {
		err = entry.Tell(lp)
	}
	if err == nil {
		err = cr.publish(cfg, lp, own)
	}
	if err != nil {
		// Already failing: the process is ours, it dies and is reaped.
		_ = lp.Signal(unix.SIGKILL)
		_, _ = lp.Wait()
		return nil, errors.Join(err, container.Destroy())
	}
	return lp, nil
}

// attach gives lp its descriptors; the closer is for after the start.
func attach(lp *libcontainer.Process, terminal bool, fg *foreground, socket string, preserve int) (io.Closer, error) {
	switch {
	case terminal && socket != "":
		return process.DialConsole(lp, socket)
	case terminal && fg == nil:
		return nil, errors.New("the process wants a terminal and nobody stays to serve it: pass --console-socket")
	case terminal:
		t, err := process.NewTerminal(lp)
		if err != nil {
			return nil, err
		}
		fg.terminal = t
		return io.NopCloser(nil), nil
	case socket != "":
		return nil, errors.New("--console-socket is given and the process wants no terminal")
	}
	return io.NopCloser(nil), process.InheritStdio(lp, preserve)
}

// publish makes the container known: record first, pid file last, because the
// service manager acts on the latter.
func (cr *creation) publish(cfg *bundle.Config, lp *libcontainer.Process, own bool) error {
	pid, err := lp.Pid()
	if err != nil {
		return err
	}
	start, err := record.StartTime(pid)
	if err != nil {
		return err
	}
	_, annotations := utils.Annotations(cfg.Labels)
	r := &record.Record{
		ID:          cr.id,
		OCIVersion:  cfg.Spec.Version,
		Pid:         pid,
		StartTime:   start,
		Created:     time.Now().UTC(),
		Bundle:      cfg.Bundle,
		Rootfs:      cfg.Rootfs,
		Annotations: annotations,
		Cgroup:      cfg.Cgroup,
		OwnCgroup:   own,
		PrivatePID:  cfg.Namespaces.IsPrivate(configs.NEWPID),
		NestedUser:  bundle.NestedUserNS(cfg.Spec),
		FullDelete:  !cfg.Inherited || cfg.HasHook(configs.Poststop) || cfg.IntelRdt != nil,
	}
	if err := r.Save(cr.root); err != nil {
		return err
	}
	return writePidFile(cr.pidFile, pid)
}

func writePidFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	if err := record.WriteFile(path, []byte(strconv.Itoa(pid))); err != nil {
		return fmt.Errorf("cannot write the pid file: %w", err)
	}
	return nil
}
