// Package e2e drives a whole engine, set up by `moss setup` under the user's
// own systemd, with the unmodified docker client and with moss. The tests are
// the scripts in ../script (testscript; docs/HACKING.md lists the commands they
// have besides).
package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/tests/busybox"
	"github.com/moss-containers/moss/tests/plugin"
	"github.com/moss-containers/moss/tests/turn"
)

// prefix keeps the engine under test apart from one the user may have.
const prefix = "moss-test"

// engine is the one engine of a run of this package.
type engine struct {
	bin  string // where moss, mossd and moss-runtime are
	top  string // throwaway directory: data, configuration, busybox.tar
	run  string // the engine's run-time directory
	sock string

	service *exec.Cmd // without systemd only
}

var suite engine

func TestMain(m *testing.M) {
	plugin.Main()
	code, err := runSuite(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func runSuite(m *testing.M) (code int, err error) {
	if err := turn.Take(); err != nil {
		return 1, err
	}
	if err := suite.up(); err != nil {
		return 1, errors.Join(err, suite.down())
	}
	defer func() { err = errors.Join(err, suite.down()) }()
	return m.Run(), nil
}

// env is what the engine's clients and `moss setup` run with.
func (e *engine) env() []string {
	return []string{
		"PATH=" + e.bin + ":" + e.bin + "/tools:" + os.Getenv("PATH"),
		"XDG_RUNTIME_DIR=" + os.Getenv("XDG_RUNTIME_DIR"),
		"DBUS_SESSION_BUS_ADDRESS=" + os.Getenv("DBUS_SESSION_BUS_ADDRESS"),
		"XDG_DATA_HOME=" + filepath.Join(e.top, "data"),
		"XDG_CONFIG_HOME=" + filepath.Join(e.top, "config"),
		"DOCKER_CONFIG=" + filepath.Join(e.top, "docker"),
		"DOCKER_HOST=unix://" + e.sock,
		"PREFIX=" + prefix,
		"GORACE=" + os.Getenv("GORACE"),
		"MOSS_NOSYSTEMD=" + os.Getenv("MOSS_NOSYSTEMD"),
		"SERVICE_LOG=" + e.logFile(),
	}
}

func (e *engine) output(name string, args ...string) (string, error) {
	cmd := exec.Command("/usr/bin/env", append([]string{name}, args...)...)
	cmd.Env = append(e.env(), "HOME="+os.Getenv("HOME"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), err
}

func (e *engine) up() error {
	e.bin = os.Getenv("MOSS_BIN")
	if e.bin == "" || os.Getenv("XDG_RUNTIME_DIR") == "" {
		return errors.New("MOSS_BIN and XDG_RUNTIME_DIR must be set: run it through make test PKG=./tests/e2e")
	}
	for _, b := range []string{"moss", "mossd", "moss-runtime"} {
		if _, err := os.Stat(filepath.Join(e.bin, b)); err != nil {
			return fmt.Errorf("%s is not built (make build): %w", b, err)
		}
	}
	e.run = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), prefix)
	e.sock = filepath.Join(e.run, "moss.sock")
	var err error
	if e.top, err = os.MkdirTemp("", "moss-e2e-"); err != nil {
		return err
	}
	if err := busybox.WriteFile(filepath.Join(e.top, "busybox.tar")); err != nil {
		return err
	}
	if withoutSystemd {
		return e.beginService()
	}
	if _, err := e.output("moss", "setup", "--runtime", "--prefix", prefix, "--bin-dir", e.bin); err != nil {
		return err
	}
	// The socket starts the daemon; from here on the leak counts have a base.
	_, err = e.output("docker", "version")
	if err != nil {
		journal, _ := e.output("journalctl", "--user", "--no-pager", "-n", "60", "-u", prefix+"*")
		err = fmt.Errorf("the engine does not answer: %w\n%s", err, journal)
	}
	return err
}

// pid is the daemon's, 0 when there is none.
func (e *engine) pid() (int, error) {
	if withoutSystemd {
		return e.daemonPID()
	}
	out, err := e.output("systemctl", "--user", "show", "--property=MainPID", "--value", prefix+".service")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// kill is kill -9 of the daemon; it returns when its successor answers.
func (e *engine) kill() error {
	if withoutSystemd {
		return e.signalDaemon(unix.SIGKILL)
	}
	old, err := e.pid()
	if err != nil || old == 0 {
		return fmt.Errorf("%s.service has no main process: %w", prefix, err)
	}
	if _, err := e.output("systemctl", "--user", "kill", "--signal=KILL", "--kill-who=main", prefix+".service"); err != nil {
		return err
	}
	return e.replaced(old)
}

// replaced returns when a successor of the daemon answers.
func (e *engine) replaced(old int) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := e.output("docker", "version")
		now, pidErr := e.pid()
		if err == nil && pidErr == nil && now != old && now != 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no new daemon answers: %w", errors.Join(err, pidErr))
		}
	}
}

func (e *engine) down() error {
	if e.top == "" {
		return nil
	}
	var err error
	if withoutSystemd {
		err = e.endService()
	} else {
		_, err = e.output("moss", "setup", "--uninstall", "--runtime", "--prefix", prefix)
	}
	// Layers belong to sub-ids: only the user namespace may remove them.
	_, rmErr := e.output("unshare", "--user", "--map-auto", "--map-root-user", "rm", "-rf", e.top)
	return errors.Join(err, rmErr)
}
