package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// withoutSystemd says that the engine under test is `moss system service`'s (make test-nosystemd).
var withoutSystemd = os.Getenv("MOSS_NOSYSTEMD") != ""

// serviceEnv is env without what leads to a user manager.
func (e *engine) serviceEnv() []string {
	return append(e.env(), "HOME="+os.Getenv("HOME"), "DBUS_SESSION_BUS_ADDRESS=")
}

// beginService starts `moss system service`, with more variables in its environment; its own words go to a
// file in the throwaway directory.
func (e *engine) beginService(more ...string) error {
	log, err := os.OpenFile(e.logFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	e.service = exec.Command(filepath.Join(e.bin, "moss"), "system", "service", "--prefix", prefix)
	e.service.Env, e.service.Stdout, e.service.Stderr = append(e.serviceEnv(), more...), log, log
	if err := e.service.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		_, err := e.output("docker", "version")
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("moss system service does not answer: %w\n%s", err, e.serviceLog())
		}
	}
}

// restartService ends it and begins it anew, with more variables in its environment.
func (e *engine) restartService(more ...string) error {
	if err := e.endService(); err != nil {
		return err
	}
	return e.beginService(more...)
}

func (e *engine) logFile() string { return filepath.Join(e.top, "service.log") }

// serviceLog is the end of what the service and the daemon have said.
func (e *engine) serviceLog() string {
	text, err := os.ReadFile(e.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-16<<10):])
}

// endService ends it as Ctrl-C does, and takes its directories away.
func (e *engine) endService() error {
	if e.service == nil || e.service.Process == nil {
		return nil
	}
	err := e.service.Process.Signal(unix.SIGINT)
	if err == nil {
		err = e.service.Wait()
	}
	if err != nil {
		err = fmt.Errorf("the end of moss system service: %w\n%s", err, e.serviceLog())
	}
	return errors.Join(err, os.RemoveAll(e.run))
}

// daemonPID is the daemon's, 0 when there is none.
func (e *engine) daemonPID() (int, error) {
	out, err := e.output("pgrep", "-f", "^[^ ]*/mossd --prefix "+prefix+"$")
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// signalDaemon signals the daemon and returns when its successor answers.
func (e *engine) signalDaemon(sig unix.Signal) error {
	old, err := e.daemonPID()
	if err != nil || old == 0 {
		return fmt.Errorf("there is no daemon: %w", err)
	}
	if err := unix.Kill(old, sig); err != nil {
		return err
	}
	return e.replaced(old)
}
