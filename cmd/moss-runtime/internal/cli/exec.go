package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/bundle"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/filter"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/process"
	"github.com/moss-containers/moss/cmd/moss-runtime/internal/record"
)

// execFailed is exec's exit code for an error of its own, as runc has it.
const execFailed = 255

func execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run another process in a running container",
		ArgsUsage: "CONTAINER COMMAND [ARG...] | --process FILE CONTAINER",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "process", Aliases: []string{"p"}, Usage: "file with the process as OCI JSON"},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "return when it runs"},
			&cli.StringFlag{Name: "pid-file", Usage: "file the process id is written to"},
			&cli.StringFlag{Name: "console-socket", Usage: "unix socket that is sent the terminal's master"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give it a terminal"},
			&cli.StringFlag{Name: "cwd", Usage: "working directory in the container"},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "NAME=VALUE, may be repeated"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "UID[:GID]"},
			&cli.Int64SliceFlag{Name: "additional-gids", Aliases: []string{"g"}, Usage: "additional group id, may be repeated"},
			&cli.StringSliceFlag{Name: "cap", Aliases: []string{"c"}, Usage: "additional capability, may be repeated"},
			&cli.BoolFlag{Name: "no-new-privs", Usage: "set no_new_privs"},
			&cli.IntFlag{Name: "preserve-fds", Usage: "hand this many descriptors from 3 upwards on"},
			&cli.BoolFlag{Name: "ignore-paused", Usage: "exec in a paused container: it runs when resumed"},
		},
		Action: func(c *cli.Context) error {
			code, err := execProcess(c)
			if err != nil {
				return &exitError{code: execFailed, err: fmt.Errorf("cannot exec in container %q: %w", c.Args().First(), err)}
			}
			if code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

func execProcess(c *cli.Context) (code int, err error) {
	dir, err := root(c)
	if err != nil {
		return -1, err
	}
	pidFile, err := absFlag(c, "pid-file")
	if err != nil {
		return -1, err
	}
	r, err := record.Load(dir, c.Args().First())
	if err != nil {
		return -1, err
	}
	if err := execable(r, c.Bool("ignore-paused")); err != nil {
		return -1, err
	}
	spec, err := execSpec(c, r)
	if err != nil {
		return -1, err
	}
	if !r.NestedUser {
		if err := bundle.CheckIDs(spec.User); err != nil {
			return -1, err
		}
	}
	lp, err := process.New(spec)
	if err != nil {
		return -1, err
	}
	var fg *foreground
	var signals *process.Forwarder
	if !c.Bool("detach") {
		fg, signals = &foreground{}, process.NewForwarder()
	}
	closer, err := attach(lp, spec.Terminal, fg, c.String("console-socket"), c.Int("preserve-fds"))
	if err != nil {
		return -1, err
	}
	defer closer.Close()
	if err := process.StartSmall(); err != nil {
		return -1, err
	}
	if err := process.AdoptOOMScore(process.OOMScoreOf(r.Pid)); err != nil {
		return -1, err
	}
	container, err := libcontainer.Load(dir, r.ID)
	if err != nil {
		return -1, err
	}
	if err := filter.ForRoot(dir).Run(container, lp, r.Path()); err != nil {
		process.Clear()
		return -1, err
	}
	pid, err := lp.Pid()
	if err == nil {
		warnIfElsewhere(r, pid)
		err = writePidFile(pidFile, pid)
	}
	var terminal *process.Terminal
	if err == nil && fg != nil && fg.terminal != nil {
		terminal = fg.terminal
		if err = terminal.Serve(); err == nil {
			defer func() { err = errors.Join(err, terminal.Close()) }()
		}
	}
	if err != nil {
		_ = lp.Signal(unix.SIGKILL)
		_, _ = lp.Wait()
		return -1, err
	}
	if fg == nil {
		return 0, nil
	}
	return signals.Wait(lp, terminal)
}

// warnIfElsewhere says so when the process could not be moved into the
// container's cgroup: the caller's has an ancestor this user may not write to.
// From anywhere below the user's own manager it can.
func warnIfElsewhere(r *record.Record, pid int) {
	got, err := cgroup.Of(pid)
	if err != nil {
		return // it has ended
	}
	if want, err := cgroup.Of(r.Pid); err == nil && got != want {
		logrus.Warnf("process %d stays in cgroup %s: this user may not move it to the container's, %s", pid, got, want)
	}
}

func execable(r *record.Record, ignorePaused bool) error {
	status, err := r.Status()
	if err != nil {
		return err
	}
	switch {
	case status == record.Stopped:
		return record.ErrNotRunning
	case status == record.Paused && !ignorePaused:
		return errors.New("it is paused: resume it first, or use --ignore-paused")
	}
	return nil
}

// execSpec is the process of --process, or the container's own one with the
// command line's changes.
func execSpec(c *cli.Context, r *record.Record) (*specs.Process, error) {
	if file := c.String("process"); file != "" {
		if c.NArg() > 1 {
			return nil, errors.New("--process and a command are given: use one of them")
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := json.Unmarshal(data, p); err != nil {
			return nil, fmt.Errorf("cannot read the process from %s: %w", file, err)
		}
		return p, bundle.CheckProcess(p)
	}
	spec, _, err := bundle.LoadSpec(r.Bundle)
	if err != nil {
		return nil, err
	}
	p := spec.Process
	if p == nil {
		return nil, errors.New("the bundle has no process to take defaults from: use --process")
	}
	if c.NArg() < 2 {
		return nil, errors.New("no command is given")
	}
	p.Args = c.Args().Tail()
	p.Terminal = c.Bool("tty")
	p.Env = append(p.Env, c.StringSlice("env")...)
	if cwd := c.String("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	if c.Bool("no-new-privs") {
		p.NoNewPrivileges = true
	}
	addCapabilities(p, c.StringSlice("cap"))
	if err := setUser(p, c.String("user"), c.Int64Slice("additional-gids")); err != nil {
		return nil, err
	}
	return p, bundle.CheckProcess(p)
}

// addCapabilities grants caps the way runc's exec --cap does: ambient too only
// where the container's own process has inheritable ones.
func addCapabilities(p *specs.Process, caps []string) {
	if len(caps) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	k := p.Capabilities
	k.Bounding = append(k.Bounding, caps...)
	k.Effective = append(k.Effective, caps...)
	k.Permitted = append(k.Permitted, caps...)
	if k.Inheritable != nil {
		k.Inheritable = append(k.Inheritable, caps...)
		k.Ambient = append(k.Ambient, caps...)
	}
}

func setUser(p *specs.Process, user string, groups []int64) error {
	if user != "" {
		uid, gid, hasGID := strings.Cut(user, ":")
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return fmt.Errorf("--user %q: the uid must be a number", user)
		}
		p.User.UID = uint32(n)
		if hasGID {
			if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
				return fmt.Errorf("--user %q: the gid must be a number", user)
			}
			p.User.GID = uint32(n)
		}
	}
	for _, g := range groups {
		if g < 0 || g > 1<<32-1 {
			return fmt.Errorf("--additional-gids %d: not a group id", g)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	return nil
}
