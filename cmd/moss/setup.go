package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/moss-containers/moss/pkg/config"
	"github.com/moss-containers/moss/pkg/doctor"
	"github.com/moss-containers/moss/pkg/setup"
	"github.com/moss-containers/moss/pkg/units"
	"github.com/moss-containers/moss/userns"
)

func (a *app) setupCommands() []*cli.Command {
	prefix := &cli.StringFlag{Name: "prefix", Value: config.DefaultPrefix, Usage: "`NAME` that the units and directories of the engine begin with"}
	return []*cli.Command{
		command("setup", "", "write the units, enable them and start the socket", 0, 0, []cli.Flag{
			prefix,
			&cli.StringFlag{Name: "bin-dir", Usage: "`DIRECTORY` that mossd is in (default: where moss is)"},
			&cli.BoolFlag{Name: "runtime", Usage: "until the next boot only"},
			&cli.BoolFlag{Name: "uninstall", Usage: "stop everything and take the units away; images and containers stay"},
			&cli.BoolFlag{Name: "purge", Usage: "with --uninstall: delete images, containers and configuration too"},
		}, a.setup),
		command("doctor", "", "look at what moss needs and say how to mend what is missing", 0, 0, []cli.Flag{prefix}, a.doctor),
	}
}

func (a *app) setup(c *cli.Context) error {
	if err := userns.CheckNotRoot(); err != nil {
		return err
	}
	cfg, err := config.Default(c.String("prefix"), a.getenv)
	if err != nil {
		return err
	}
	if c.Bool("purge") && !c.Bool("uninstall") {
		return &status{1, "--purge goes with --uninstall"}
	}
	o := setup.Options{
		Prefix: cfg.Prefix, BinDir: c.String("bin-dir"), Runtime: c.Bool("runtime"), Purge: c.Bool("purge"),
		DataDirs: []string{cfg.Data, cfg.Etc, cfg.Run}, Env: a.unitEnv(),
	}
	if o.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o.BinDir = filepath.Dir(self)
	}
	if o.BinDir, err = filepath.Abs(o.BinDir); err != nil {
		return err
	}
	if !o.Runtime { // nothing else knows of an engine that the next boot forgets
		from := o.BinDir
		if c.Bool("uninstall") {
			from = "" // it may be gone
		}
		if o.Extras, err = a.extras(c.Context, cfg, from); err != nil {
			return err
		}
	}
	m, err := units.New(c.Context, units.Options{Prefix: cfg.Prefix})
	if err != nil {
		return fmt.Errorf("%w\nsee what is missing with: moss doctor; where systemd's user manager cannot be had, run: moss system service", err)
	}
	defer m.Close()
	var report setup.Report
	if c.Bool("uninstall") {
		chosen := cfg
		readErr := chosen.ReadFile(cfg.File()) // before it is deleted
		if o.Purge {
			announce(a.out, cfg)
		}
		report, err = setup.Uninstall(c.Context, m, m, o)
		if o.Purge && readErr == nil && chosen.Data != cfg.Data {
			fmt.Fprintf(a.err, "not deleted: %s, the data-root of daemon.json, which may hold more than moss's\n", chosen.Data)
		}
	} else {
		report, err = setup.Install(c.Context, m, o)
	}
	printReport(a.out, report)
	if err != nil {
		return err
	}
	if c.Bool("uninstall") {
		if a.chosenContext(cfg.Prefix) {
			fmt.Fprintln(a.out, "note: docker's client still uses the context "+cfg.Prefix+"; end that with: docker context use default")
		}
		return nil
	}
	if user, lingers := doctor.Lingers(); !o.Runtime && !lingers {
		fmt.Fprintln(a.out, "note: containers end with your last logout and do not start at boot; let them run with: sudo loginctl enable-linger "+user)
	}
	if dir, unseen := a.manualsUnseen(c.Context, o.Extras); unseen {
		fmt.Fprintln(a.out, "note: man does not look at "+dir+"; let it with: export MANPATH=:"+dir)
	}
	if wrote(report, o.Extras) {
		fmt.Fprintln(a.out, "docker's client knows the engine now: docker context use "+cfg.Prefix)
	}
	fmt.Fprintf(a.out, "the engine is at: export DOCKER_HOST=unix://%s\n", cfg.Socket())
	return nil
}

// announce tells what a purge deletes, before it does.
func announce(w io.Writer, cfg config.Config) {
	if _, err := os.Lstat(cfg.Data); err == nil {
		fmt.Fprintln(w, "to be deleted: "+cfg.Data+" (images, containers, volumes, networks, secrets)")
	}
	defer fmt.Fprintln(w, "to be deleted: "+cfg.Run+" (what is of this boot)")
	entries, err := os.ReadDir(cfg.Etc)
	if err != nil {
		return
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) == 0 {
		names = []string{"empty"}
	}
	fmt.Fprintln(w, "to be deleted: "+cfg.Etc+" ("+strings.Join(names, ", ")+")")
}

// unitEnv are the directories that this shell has set and a unit would not see.
func (a *app) unitEnv() map[string]string {
	env := make(map[string]string)
	for _, name := range []string{"XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if v := a.getenv(name); filepath.IsAbs(v) {
			env[name] = v
		}
	}
	return env
}

func printReport(w io.Writer, r setup.Report) {
	for _, line := range r.Done {
		fmt.Fprintln(w, line)
	}
	for _, line := range r.Notes {
		fmt.Fprintln(w, "note: "+line)
	}
}

// doctor looks at what moss needs and says how to mend what is missing.
func (a *app) doctor(c *cli.Context) error {
	cfg, err := config.Default(c.String("prefix"), a.getenv)
	if err != nil {
		// Without a run-time directory the rest can still be looked at.
		cfg = config.Config{Prefix: config.DefaultPrefix}
	}
	checks := doctor.Examine(doctor.Gather(c.Context, doctor.Options{
		Prefix: cfg.Prefix, DataDir: cfg.Data, Socket: cfg.Socket(),
		Connect: func(ctx context.Context) (doctor.Manager, error) {
			return units.New(ctx, units.Options{Prefix: cfg.Prefix})
		},
	}))
	for _, check := range checks {
		fmt.Fprintf(a.out, "%-5s %-16s %s\n", check.Verdict, check.Name, check.Detail)
		if check.Mend != "" && check.Verdict != doctor.OK {
			fmt.Fprintf(a.out, "      %-16s mend it with: %s\n", "", check.Mend)
		}
	}
	if doctor.Worst(checks) == doctor.Fail {
		return &status{code: 1}
	}
	return nil
}
