package main

import (
	"context"
	"errors"
	"fmt"
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
	validate := &cli.BoolFlag{Name: "validate", Usage: "say whether the configuration can be used, and end"}
	load := func(c *cli.Context) (settings, error) {
		// Root has no run-time directory, as a rule: the reason is not that.
		if getenv("XDG_RUNTIME_DIR") == "" {
			if err := userns.CheckNotRoot(); err != nil {
				return settings{}, err
			}
		}
		return configure(c, getenv)
	}
	// The log is where this is read: a sentence, not the whole of the help.
	misused := func(_ *cli.Context, err error, _ bool) error { return fmt.Errorf("%w; see mossd --help", err) }
	app := &cli.App{
		Name: "mossd", Usage: "the engine of moss, for systemd --user to run", Version: version.Version,
		Flags: append([]cli.Flag{prefix, file, validate}, settingFlags()...), HideHelpCommand: true,
		ExitErrHandler: func(*cli.Context, error) {}, OnUsageError: misused,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return errors.New("mossd takes no argument " + c.Args().First() + "; see mossd --help")
			}
			cfg, err := load(c)
			if err != nil && !c.Bool("validate") && cfg.defaults.Run != "" {
				err = refuseSettings(c.Context, cfg.defaults.Run, cfg.defaults.Prefix, err)
			}
			if err != nil {
				return err
			}
			if c.Bool("validate") {
				_, err := fmt.Fprintln(c.App.Writer, "configuration OK")
				return err
			}
			return serve(c.Context, cfg)
		},
		Commands: []*cli.Command{{
			Name: "manual", Usage: "print mossd(8), for moss setup", Hidden: true,
			Action: func(c *cli.Context) error {
				text, err := c.App.ToManWithSection(8)
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(c.App.Writer, text)
				return err
			},
		}, {
			Name: "reload", Usage: "make the running daemon read its configuration anew; fails when that cannot be used", OnUsageError: misused,
			Action: func(c *cli.Context) error {
				if c.Args().Present() {
					return errors.New("mossd reload takes no argument " + c.Args().First())
				}
				defaults, err := config.Default(c.String("prefix"), getenv)
				if err != nil {
					return err
				}
				return askReload(c.Context, defaults.Socket())
			},
		}, {
			Name: "rootless", Usage: "hold the namespaces of the engine", OnUsageError: misused,
			Action: func(c *cli.Context) error {
				if err := userns.CheckNotRoot(); err != nil {
					return err
				}
				cfg, err := load(c)
				if err != nil {
					if cfg.defaults.Run == "" {
						return err
					}
					// The daemon tells everybody who asks, and runs in the namespaces.
					fmt.Fprintf(c.App.ErrWriter, "mossd: %v; the namespaces are held nevertheless, by the settings for them that can be used\n", err)
					cfg.Config = cfg.defaults.Usable(cfg.path, holderKeys...)
				}
				return rootless.Exec(holderArgs(cfg.Config))
			},
		}, {
			Name: "unshare", Usage: "become a command in the engine's namespaces, for moss unshare", Hidden: true, HideHelpCommand: true,
			Action: func(c *cli.Context) error { return become(c.Args().Slice()) },
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

// holderKeys are what the holder of the namespaces is told.
var holderKeys = []string{"moss-network-driver", "moss-tcp-way-out", "debug", "log-level"}

func holderArgs(cfg config.Config) []string {
	args := []string{"-state-dir", cfg.Rootless(), "-net", cfg.NetworkDriver}
	if cfg.WayOut {
		args = append(args, "-tcp-way-out")
	}
	if cfg.Level() <= slog.LevelDebug {
		args = append(args, "-debug")
	}
	return args
}
