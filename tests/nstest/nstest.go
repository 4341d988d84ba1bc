// Package nstest runs a test binary inside a user and a mount namespace, as
// the engine runs, so that tests mount without privilege and leave no mounts.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

const inside = "_MOSS_NSTEST"

// Full says whether more than one id is mapped: only root can give the tests
// a range of ids without help.
func Full() bool { return os.Getenv(inside) == "full" }

// Main is the rest of a TestMain: it runs the tests in new namespaces. Where
// the machine forbids those it fails, saying so.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	const ids = 65536
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	kind := "single"
	if os.Getuid() == 0 {
		kind = "full"
		attr.UidMappings = []syscall.SysProcIDMap{{Size: ids}}
		attr.GidMappings = []syscall.SysProcIDMap{{Size: ids}}
		attr.GidMappingsEnableSetgroups = true
	} else {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"="+kind)
	cmd.SysProcAttr = attr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot run the tests in a user namespace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
