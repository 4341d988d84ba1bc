// Package bench measures the figures moss promises (docs/HACKING.md, "Measure
// it") against bare crun and podman, on the same machine and in the same run,
// one after the other in turns. Processor time is all of it: client, daemon,
// helpers, service manager, bus, and what works on after the client has ended.
//
// Nothing here runs without -bench. With -figures (or MOSS_FIGURES=1) a missed
// figure fails the run; otherwise it is only told.
package bench

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/tests/busybox"
)

// prefix keeps the engine under test apart from one the user may have.
const prefix = "moss-bench"

var strict = flag.Bool("figures", os.Getenv("MOSS_FIGURES") != "", "fail where a figure is missed")

// engine is the one engine of a run of this package, and a directory for its peers.
type engine struct {
	bin string // where moss, mossd and moss-runtime are
	top string // throwaway directory: data, configuration, busybox.tar, peers
	run string // the engine's run-time directory
}

var suite engine

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == playing {
		os.Exit(play(os.Args[2:]))
	}
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		os.Exit(m.Run())
	}
	code := 1
	err := suite.up()
	if err == nil {
		code = m.Run()
	}
	if err = errors.Join(err, suite.down()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// env is what every contestant runs with: directories of its own, the user's manager.
func (e *engine) env() []string {
	return []string{
		"PATH=" + e.bin + ":" + os.Getenv("PATH"),
		"HOME=" + e.top,
		"XDG_RUNTIME_DIR=" + os.Getenv("XDG_RUNTIME_DIR"),
		"DBUS_SESSION_BUS_ADDRESS=" + os.Getenv("DBUS_SESSION_BUS_ADDRESS"),
		"XDG_DATA_HOME=" + filepath.Join(e.top, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(e.top, "config"),
		"DOCKER_HOST=unix://" + filepath.Join(e.run, "moss.sock"),
	}
}

// command prepares a contestant's command line. The path is looked up here, so
// that no wrapper is measured.
func (e *engine) command(argv ...string) (*exec.Cmd, *bytes.Buffer) {
	name := argv[0]
	own := filepath.Join(e.bin, name)
	if _, err := os.Stat(own); err == nil {
		name = own
	}
	cmd := exec.Command(name, argv[1:]...)
	cmd.Env, cmd.Dir = e.env(), e.top
	said := new(bytes.Buffer)
	cmd.Stderr = said
	return cmd, said
}

func (e *engine) output(argv ...string) (string, error) {
	cmd, said := e.command(argv...)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s%s", strings.Join(argv, " "), err, out, said)
	}
	return strings.TrimSpace(string(out)), err
}

func (e *engine) must(b *testing.B, argv ...string) string {
	b.Helper()
	out, err := e.output(argv...)
	if err != nil {
		b.Fatal(err)
	}
	return out
}

func (e *engine) up() error {
	e.bin = os.Getenv("MOSS_BIN")
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if e.bin == "" || runtime == "" {
		return errors.New("MOSS_BIN and XDG_RUNTIME_DIR must be set: run it through make bench")
	}
	e.run = filepath.Join(runtime, prefix)
	var err error
	if e.top, err = os.MkdirTemp("", prefix+"-"); err != nil {
		return err
	}
	if err := busybox.WriteFile(filepath.Join(e.top, "busybox.tar")); err != nil {
		return err
	}
	if _, err := e.output("moss", "setup", "--runtime", "--prefix", prefix, "--bin-dir", e.bin); err != nil {
		return err
	}
	_, err = e.output("moss", "load", "-i", filepath.Join(e.top, "busybox.tar"))
	if err != nil {
		journal, _ := e.output("journalctl", "--user", "--no-pager", "-n", "60", "-u", prefix+"*")
		err = fmt.Errorf("%w\n%s", err, journal)
	}
	return err
}

func (e *engine) down() error {
	if e.top == "" {
		return nil
	}
	errs := []error{podmanDown(), dockerDown()}
	_, err := e.output("moss", "setup", "--uninstall", "--runtime", "--prefix", prefix)
	errs = append(errs, err)
	// Layers belong to sub-ids: only the user namespace may remove them.
	_, err = e.output("unshare", "--user", "--map-auto", "--map-root-user", "rm", "-rf", e.top)
	return errors.Join(append(errs, err)...)
}
