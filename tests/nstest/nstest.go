// Package nstest runs a test binary inside a user and a mount namespace, as
// the engine runs, so that tests mount without privilege and leave no mounts.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const inside = "_MOSS_NSTEST"

// Full says whether more than one id is mapped: root can give the tests a range
// of ids, others one of their subordinate ids (subuid(5)).
func Full() bool { return os.Getenv(inside) == "full" }

// Main is the rest of a TestMain: it runs the tests in new namespaces. Where
// the machine forbids those it fails, saying so.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		undo := inMemory()
		code := m.Run()
		undo()
		os.Exit(code)
	}
	const ids = 65536
	self, argv := "/proc/self/exe", os.Args[1:]
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	kind := "single"
	switch {
	case os.Getuid() == 0:
		kind = "full"
		attr.UidMappings = []syscall.SysProcIDMap{{Size: ids}}
		attr.GidMappings = []syscall.SysProcIDMap{{Size: ids}}
		attr.GidMappingsEnableSetgroups = true
	case mapsAll():
		kind = "full"
		path, err := os.Executable()
		if err != nil {
			fmt.Fprintln(os.Stderr, "cannot run the tests in a user namespace:", err)
			os.Exit(1)
		}
		self, argv = "unshare", append(append(slices.Clone(ranged), path), argv...)
		attr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	default:
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	cmd := exec.Command(self, argv...)
	if self != "unshare" {
		cmd.Args[0] = os.Args[0]
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// With the race detector every process that a test starts from this binary would linger for a second at its end.
	cmd.Env = append(os.Environ(), inside+"="+kind, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
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

// ranged makes unshare(1) map the user to root and the subordinate ids behind it.
var ranged = []string{"--user", "--map-root-user", "--map-auto", "--mount", "--kill-child", "--"}

func mapsAll() bool {
	return exec.Command("unshare", append(slices.Clone(ranged), "chown", "--version")...).Run() == nil
}

// inMemory makes the tests' temporary directories in memory where that can
// hold a container's files: a disk that made and deleted many files is slow.
// Only this mount namespace sees it. With $MOSS_TEST_DISK set they stay on the disk.
func inMemory() (undo func()) {
	if os.Getenv("MOSS_TEST_DISK") != "" {
		return func() {}
	}
	dir, err := os.MkdirTemp("", "moss-nstest-")
	if err != nil {
		return func() {}
	}
	if err := unix.Mount("nstest", dir, "tmpfs", 0, "mode=1777"); err != nil {
		_ = os.Remove(dir)
		return func() {}
	}
	undo = func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
	}
	// Before Linux 6.6 it has no attributes of users, which overlay needs.
	if err := unix.Setxattr(dir, "user.moss", []byte("x"), 0); err != nil {
		undo()
		return func() {}
	}
	_ = os.Setenv("TMPDIR", dir)
	return undo
}
