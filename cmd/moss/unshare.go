package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/moby/moby/client"
	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/userns"
)

func prefixFlag() cli.Flag {
	return &cli.StringFlag{Name: "prefix", Value: config.DefaultPrefix, Usage: "`NAME` that the units and directories of the engine begin with"}
}

func (a *app) unshareCommand() *cli.Command {
	return command("unshare", "COMMAND [ARG…]", "run a command in the engine's user and mount namespace", 1, -1, []cli.Flag{prefixFlag()}, a.unshare)
}

func (a *app) unshare(c *cli.Context) error {
	return a.inside(c.Context, c.String("prefix"), a.in, a.out, c.Args().Slice()...)
}

// inside runs a command in the engine's namespaces: mossd enters them, which this
// program cannot (it has no cgo, for the sake of its start), and becomes the
// command. Its exit status becomes ours.
func (a *app) inside(ctx context.Context, prefix string, in io.Reader, out io.Writer, argv ...string) error {
	if err := userns.CheckNotRoot(); err != nil {
		return err
	}
	cfg, err := config.Default(prefix, a.getenv)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(cfg.Rootless(), "child_pid")); err != nil {
		return fmt.Errorf("the engine's namespaces are not there: start them with: systemctl --user start %[1]s-rootless.service, or where systemd's user manager is not there: moss system service --prefix %[1]s", prefix)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), names.Daemon), append([]string{"unshare", "--"}, argv...)...)
	cmd.Env = append(os.Environ(), userns.JoinEnv+"="+cfg.Rootless())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, a.err
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if exit.ExitCode() < 0 {
			return &status{code: 128 + int(exit.Sys().(syscall.WaitStatus).Signal())}
		}
		return &status{code: exit.ExitCode()}
	}
	return err
}

// volumeDir is where the files of a volume are, for one that needs no mount.
func (a *app) volumeDir(c *cli.Context) (string, error) {
	api, err := a.api()
	if err != nil {
		return "", err
	}
	name := c.Args().First()
	v, err := api.VolumeInspect(c.Context, name, client.VolumeInspectOptions{})
	if err != nil {
		return "", err
	}
	if v.Volume.Driver != "local" || v.Volume.Options["type"] != "" {
		return "", fmt.Errorf("the files of volume %s are there only while a container runs with it: use moss cp", name)
	}
	return v.Volume.Mountpoint, nil
}

// mountVolume prints where the files are: in the engine's namespaces they may be
// worked with. Volumes of this engine are always there, so that none is mounted.
func (a *app) mountVolume(c *cli.Context) error {
	dir, err := a.volumeDir(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out, dir)
	return nil
}

func (a *app) exportVolume(c *cli.Context) (err error) {
	dir, err := a.volumeDir(c)
	if err != nil {
		return err
	}
	out := a.out
	if name := c.String("output"); name != "" && name != "-" {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = f
	}
	return a.inside(c.Context, c.String("prefix"), nil, out, "tar", "--create", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse", "--directory", dir, ".")
}

func (a *app) importVolume(c *cli.Context) error {
	dir, err := a.volumeDir(c)
	if err != nil {
		return err
	}
	in := a.in
	if name := c.Args().Get(1); name != "" && name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	return a.inside(c.Context, c.String("prefix"), in, a.err, "tar", "--extract", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--preserve-permissions", "--same-owner", "--directory", dir)
}
