package main_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests run the real binary where moss runs it: as root of a user
// namespace, in a delegated cgroup v2. TestMain gets there from wherever it is
// started, in steps, each starting this test binary again:
//
//	outside   as root: a cgroup of its own, then a user namespace of 65,536
//	          unprivileged ids. As a user: a transient unit with Delegate=yes
//	          if there is a user manager, then a user namespace mapped by
//	          newuidmap, or of the one id where there is no newuidmap.
//	waiting   holds still until the ids are mapped
//	inside    mounts cgroup2 and runs the tests
const (
	tags      = "seccomp,runc_nocriu,urfave_cli_no_docs,netgo,osusergo" // as the Makefile has them
	stageEnv  = "MOSS_RUNTIME_TEST_STAGE"
	binaryEnv = "MOSS_RUNTIME_TEST_BINARY" // a moss-runtime to test instead of a fresh build
	workEnv   = "MOSS_RUNTIME_TEST_DIR"
	unitEnv   = "MOSS_RUNTIME_TEST_IN_UNIT"
)

func TestMain(m *testing.M) {
	code, err := 0, error(nil)
	switch os.Getenv(stageEnv) {
	case "":
		code, err = outside()
	case "waiting":
		err = waiting()
	case "inside":
		if err = inside(); err == nil {
			code = m.Run()
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot set the tests up:", err)
		code = 1
	}
	os.Exit(code)
}

func outside() (int, error) {
	if os.Getuid() != 0 && os.Getenv(unitEnv) == "" && exec.Command("systemctl", "--user", "show-environment").Run() == nil {
		return inUnit()
	}
	work, err := os.MkdirTemp("", "moss-runtime-test-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(work)
	binary := os.Getenv(binaryEnv)
	if dir := os.Getenv("MOSS_BIN"); binary == "" && dir != "" {
		binary = filepath.Join(dir, "moss-runtime") // make test built it; where tests run there may be no go
	}
	if binary == "" {
		binary = filepath.Join(work, "moss-runtime")
		if out, err := exec.Command("go", "build", "-tags="+tags, "-ldflags=-s -w -extldflags=-static", "-o", binary, ".").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("cannot build moss-runtime: %w\n%s", err, out)
		}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Dir = work
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), workEnv+"="+work, binaryEnv+"="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP,
		Pdeathsig:  unix.SIGKILL,
	}
	if os.Getuid() == 0 {
		return runAsRoot(cmd, work)
	}
	return runAsUser(cmd)
}

// inUnit runs the tests in a transient unit, whose cgroup is the user's.
func inUnit() (int, error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	args := []string{
		"--user", "--quiet", "--pipe", "--wait", "--collect", "-p", "Delegate=yes",
		"--working-directory=" + dir, "-E", unitEnv + "=1",
	}
	for _, name := range []string{"PATH", "HOME", "GOFLAGS", "GOCACHE", "GOPATH", "MOSS_RUNTIME_BENCH_ALSO", "MOSS_BIN", binaryEnv} {
		if v, ok := os.LookupEnv(name); ok {
			args = append(args, "-E", name+"="+v)
		}
	}
	cmd := exec.Command("systemd-run", append(append(args, exe), os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return exitCodeOf(cmd.Run())
}

const firstID, idCount = 100000, 65536

// runAsRoot gives up what root can do: the ids inside are nobody's outside.
func runAsRoot(cmd *exec.Cmd, work string) (int, error) {
	if err := os.Chmod(work, 0o755); err != nil {
		return 0, err
	}
	if err := os.Chown(work, firstID, firstID); err != nil {
		return 0, err
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstID, Size: idCount}}
	cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = ids, ids
	cmd.SysProcAttr.GidMappingsEnableSetgroups = true
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	cmd.Env = append(cmd.Env, stageEnv+"=inside")
	hierarchy, err := cgroup2Mount()
	if err != nil {
		return 0, err
	}
	group := filepath.Join(hierarchy, "moss-runtime-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		return 0, err
	}
	defer removeCgroups(group)
	for _, f := range []string{".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		if err := os.Chown(filepath.Join(group, f), firstID, firstID); err != nil {
			return 0, err
		}
	}
	dir, err := os.Open(group)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return exitCodeOf(cmd.Run())
}

func removeCgroups(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroups(filepath.Join(dir, e.Name()))
		}
	}
	if err := unix.Rmdir(dir); err != nil {
		fmt.Fprintln(os.Stderr, "cgroup left behind:", dir, err)
	}
}

// runAsUser maps the user's own id and, with newuidmap's help, its subordinate ids.
func runAsUser(cmd *exec.Cmd) (int, error) {
	cmd.Env = append(cmd.Env, stageEnv+"=waiting")
	gate, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if err := mapIDs(cmd.Process.Pid); err != nil {
		return 0, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	if err := gate.Close(); err != nil {
		return 0, err
	}
	return exitCodeOf(cmd.Wait())
}

func mapIDs(pid int) error {
	me, err := user.Current()
	if err != nil {
		return err
	}
	proc := "/proc/" + strconv.Itoa(pid)
	for _, m := range []struct{ tool, file, sub, id string }{
		{"newuidmap", "uid_map", "/etc/subuid", me.Uid},
		{"newgidmap", "gid_map", "/etc/subgid", me.Gid},
	} {
		if first, count, ok := subIDs(m.sub, me); ok {
			out, err := exec.Command(m.tool, strconv.Itoa(pid), "0", m.id, "1", "1", first, count).CombinedOutput()
			if err == nil {
				continue
			}
			fmt.Fprintf(os.Stderr, "%s: %v: %s; mapping one id\n", m.tool, err, out)
		}
		if m.file == "gid_map" {
			if err := os.WriteFile(proc+"/setgroups", []byte("deny"), 0); err != nil {
				return err
			}
		}
		if err := os.WriteFile(proc+"/"+m.file, []byte("0 "+m.id+" 1"), 0); err != nil {
			return err
		}
	}
	return nil
}

func subIDs(file string, me *user.User) (first, count string, ok bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", "", false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 3 && (f[0] == me.Username || f[0] == me.Uid) {
			return f[1], f[2], true
		}
	}
	return "", "", false
}

// waiting holds until the ids are mapped (stdin ends), then becomes root.
func waiting() error {
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	if err := os.Setenv(stageEnv, "inside"); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// inside makes the place look like a moss unit's: cgroup v2 on /sys/fs/cgroup,
// this process out of the way in a leaf.
func inside() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	// The kernel does not mount one file system twice on one place: go round.
	aside, err := os.MkdirTemp(os.Getenv(workEnv), "cgroup")
	if err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", aside, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount cgroup2: %w", err)
	}
	if err := unix.Mount(aside, "/sys/fs/cgroup", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move cgroup2 to its place: %w", err)
	}
	if err := os.Mkdir("/sys/fs/cgroup/self", 0o755); err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil // not delegated: what needs a cgroup is skipped
		}
		return err
	}
	delegated = true
	return os.WriteFile("/sys/fs/cgroup/self/cgroup.procs", []byte("0"), 0)
}

// delegated tells whether cgroups can be made.
var delegated bool

func cgroup2Mount() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted")
}

func exitCodeOf(err error) (int, error) {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
