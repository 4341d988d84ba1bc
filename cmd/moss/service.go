package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/names"
	"github.com/moss-containers/moss/userns"
)

func (a *app) serviceCommand() *cli.Command {
	return command("service", "[unix://PATH]", "run the engine in the foreground, without systemd", 0, 1, []cli.Flag{
		&cli.StringFlag{Name: "prefix", Value: config.DefaultPrefix, Usage: "`NAME` that the directories of the engine begin with"},
		&cli.DurationFlag{Name: "time", Aliases: []string{"t"}, Usage: "end when no container runs and nothing was asked for so `LONG` (0: never)"},
	}, a.service)
}

// service becomes the program that stands in for systemd's user manager.
func (a *app) service(c *cli.Context) error {
	if err := userns.CheckNotRoot(); err != nil {
		return err
	}
	cfg, err := config.Default(c.String("prefix"), a.getenv)
	if err != nil {
		return err
	}
	args := []string{names.Rootless, "service", "-prefix", cfg.Prefix, "-time", c.Duration("time").String()}
	if address := c.Args().First(); address != "" {
		path, ok := strings.CutPrefix(address, "unix://")
		if !ok || !filepath.IsAbs(path) {
			return &status{1, fmt.Sprintf("invalid address %q: want unix:///PATH; further addresses are the setting hosts of daemon.json", address)}
		}
		args = append(args, "-socket", path)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program := filepath.Join(filepath.Dir(self), names.Rootless)
	return fmt.Errorf("cannot run %s: %w", program, syscall.Exec(program, args, os.Environ()))
}
