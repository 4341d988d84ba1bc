package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/version"
	"github.com/moss-containers/moss/rootless"
	"github.com/moss-containers/moss/userns"
)

// run is main, for tests: it returns when ctx ends or the daemon cannot go on.
func run(ctx context.Context, args []string, getenv func(string) string) error {
	prefix := &cli.StringFlag{Name: "prefix", Value: config.DefaultPrefix, Usage: "`NAME` that the units and directories of this engine begin with"}
	file := &cli.StringFlag{Name: "config-file", Usage: "configuration `FILE` (default: daemon.json in the configuration directory)"}
	level := &cli.StringFlag{Name: "log-level", Usage: "`LEVEL` of the log: debug, info, warn or error"}
	load := func(c *cli.Context) (config.Config, error) { return configure(c, getenv) }
	app := &cli.App{
		Name: "mossd", Usage: "the engine of moss, for systemd --user to run", Version: version.Version,
		Flags: []cli.Flag{prefix, file, level}, HideHelpCommand: true,
		ExitErrHandler: func(*cli.Context, error) {},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return errors.New("mossd takes no argument " + c.Args().First() + "; see mossd --help")
			}
			cfg, err := load(c)
			if err != nil {
				return err
			}
			return serve(c.Context, cfg, newLog(cfg))
		},
		Commands: []*cli.Command{{
			Name: "rootless", Usage: "hold the namespaces of the engine",
			Action: func(c *cli.Context) error {
				if err := userns.CheckNotRoot(); err != nil {
					return err
				}
				cfg, err := load(c)
				if err != nil {
					return err
				}
				return rootless.Exec(holderArgs(cfg))
			},
		}, {
			Name: "purge", Usage: "delete directories of containers, for moss setup --uninstall --purge", Hidden: true,
			Action: func(c *cli.Context) error {
				if !userns.Joined() {
					return errors.New("mossd purge works inside the engine's user namespace only: use moss setup --uninstall --purge")
				}
				var errs []error
				for _, dir := range c.Args().Slice() {
					errs = append(errs, os.RemoveAll(dir))
				}
				return errors.Join(errs...)
			},
		}},
	}
	return app.RunContext(ctx, args)
}

// configure lays the file over the defaults and the flags over both.
func configure(c *cli.Context, getenv func(string) string) (config.Config, error) {
	cfg, err := config.Default(c.String("prefix"), getenv)
	if err != nil {
		return cfg, err
	}
	path := c.String("config-file")
	if path == "" {
		path = cfg.File()
	} else if _, err := os.Stat(path); err != nil {
		return cfg, err
	}
	if err := cfg.ReadFile(path); err != nil {
		return cfg, err
	}
	if s := c.String("log-level"); s != "" {
		cfg.LogLevel = s
	}
	return cfg, cfg.Validate()
}

func holderArgs(cfg config.Config) []string {
	args := []string{"-state-dir", cfg.Rootless(), "-net", cfg.NetworkDriver}
	if cfg.Level() <= slog.LevelDebug {
		args = append(args, "-debug")
	}
	return args
}

// newLog logs to stderr, which systemd takes to the journal with a time stamp.
func newLog(cfg config.Config) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{
		Level: cfg.Level(),
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}
