package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/busybox"
)

// Some tests run where mossd lives: as root of a user namespace. They start the
// test binary again in one: of 65,536 ids as root, of the user's own id otherwise.
const (
	insideEnv = "MOSS_TEST_INSIDE"  // the working directory, set in the second process
	binaryEnv = "MOSS_TEST_RUNTIME" // an OCI runtime to test instead of a fresh moss-runtime
)

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := inside(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot set the tests up:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// inNamespaces tells whether this is the process to run the test in. If not, it
// has run the test in another one.
func inNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	work, err := os.MkdirTemp("", "moss-test-") // t.TempDir is in a directory closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	binary := os.Getenv(binaryEnv)
	if dir := os.Getenv("MOSS_BIN"); binary == "" && dir != "" {
		binary = filepath.Join(dir, DefaultName) // make test built it; where tests run there may be no go
	}
	if binary == "" {
		binary = filepath.Join(work, DefaultName)
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags=seccomp", "-o", binary, "../../cmd/moss-runtime").CombinedOutput(); err != nil {
			t.Fatalf("cannot build moss-runtime: %v\n%s", err, out)
		}
	}
	uid, gid, size := os.Getuid(), os.Getgid(), 1
	if uid == 0 {
		uid, gid, size = 100000, 100000, 65536
		if err := errors.Join(os.Chmod(work, 0o755), os.Chown(work, uid, gid)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v="+strconv.FormatBool(testing.Verbose()))
	cmd.Env = append(os.Environ(), insideEnv+"="+work, binaryEnv+"="+binary)
	cmd.Dir = work
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP,
		UidMappings:                []syscall.SysProcIDMap{{HostID: uid, Size: size}},
		GidMappings:                []syscall.SysProcIDMap{{HostID: gid, Size: size}},
		GidMappingsEnableSetgroups: size > 1,
		Pdeathsig:                  unix.SIGKILL,
	}
	if size > 1 {
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func inside() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the mounts private: %w", err)
	}
	// The machine may have another hierarchy here; if it has this one, the mount is refused.
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("cannot mount cgroup2: %w", err)
	}
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

type runtimeRig struct {
	r        *Runtime
	dir      string
	children map[moss.ContainerID]*child
}

func newRig(t *testing.T) *runtimeRig {
	t.Helper()
	dir := t.TempDir()
	r, err := New(Config{Binary: os.Getenv(binaryEnv), Root: filepath.Join(dir, "runtime"), Bundles: filepath.Join(dir, "bundles")})
	if err != nil {
		t.Fatal(err)
	}
	return &runtimeRig{r: r, dir: dir, children: map[moss.ContainerID]*child{}}
}

func (r *runtimeRig) Runtime() engine.Runtime { return r.r }

func (r *runtimeRig) Bundle(t *testing.T, command ...string) moss.Bundle {
	t.Helper()
	id := moss.ContainerID(moss.NewHexID())
	dir := filepath.Join(r.dir, "containers", string(id))
	rootfs := filepath.Join(dir, "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path, err := busybox.Find()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rootfs, "bin/busybox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "true", "cat", "id", "ls", "wget", "nc"} {
		if err := os.Symlink("busybox", filepath.Join(rootfs, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(rootfs, "etc/passwd"), testAccounts.Passwd, 0o644); err != nil {
		t.Fatal(err)
	}
	return moss.Bundle{
		Container: moss.Container{
			ID: id, Name: "web", Path: command[0], Args: command[1:], Dir: dir,
			Config: moss.ContainerConfig{Hostname: id.Short()},
			Host:   moss.HostConfig{NetworkMode: moss.NetworkHost, CgroupNS: "host"},
		},
		Rootfs:     moss.Mount{Path: rootfs},
		Attachment: moss.Attachment{Mode: moss.NetworkHost},
		Hosts:      filepath.Join(dir, "hosts"), Hostname: filepath.Join(dir, "hostname"), Resolv: filepath.Join(dir, "resolv.conf"),
	}
}

func (r *runtimeRig) Launch(t *testing.T, id moss.ContainerID, l moss.Launch) error {
	t.Helper()
	cmd := exec.Command(l.Args[0], l.Args[1:]...)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), l.Env...)
	if err := cmd.Run(); err != nil {
		return err
	}
	text, err := os.ReadFile(l.PIDFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newChild(pid, func() {})
	if err != nil {
		return err
	}
	r.children[id] = c
	t.Cleanup(func() { // a test that has failed may have left it, with the output that is waited for
		_ = c.Signal(unix.SIGKILL) // it may have ended
		<-c.done
	})
	return nil
}

func (r *runtimeRig) Wait(t *testing.T, id moss.ContainerID) int {
	t.Helper()
	code, err := r.children[id].Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func (r *runtimeRig) Left(t *testing.T) []string {
	t.Helper()
	var left []string
	for _, dir := range []string{r.r.cfg.Root, r.r.cfg.Bundles} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	return left
}

func TestContract(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	porttest.Runtime(t, func(t *testing.T) porttest.RuntimeRig { return newRig(t) })
}

// What the golden files promise holds in a container: each script ends with 0.
func TestInContainer(t *testing.T) {
	if !inNamespaces(t) {
		return
	}
	source := t.TempDir()
	full := mapped(t) > 1
	for name, tc := range map[string]struct {
		script  string
		change  func(*moss.Bundle)
		wantIDs bool
	}{
		"default": {script: `test "$(cat /proc/self/status | grep -c NoNewPrivs:.0)" = 1`, change: func(*moss.Bundle) {}},
		"seccomp": {script: `test "$(grep Seccomp: /proc/self/status)" = "Seccomp:	2"`, change: func(*moss.Bundle) {}},
		"no new privileges": {
			script: `grep -q "NoNewPrivs:.1" /proc/self/status`,
			change: func(b *moss.Bundle) { b.Container.Host.NoNewPrivileges = true },
		},
		"read-only": {
			script: `! touch /x && touch /run/x && ! touch /etc/hosts && ! touch /ro/x && touch /rw/x && test "$(stat -c %a /run)" = 1770`,
			change: func(b *moss.Bundle) {
				b.Container.Host.ReadonlyRootfs = true
				b.Container.Mounts = []moss.MountPoint{
					{Type: moss.MountTmpfs, Target: "/run", TmpfsOptions: "size=64k,mode=1770"},
					{Type: moss.MountBind, Source: source, Target: "/ro", ReadOnly: true},
					{Type: moss.MountBind, Source: filepath.Join(source, "made"), Target: "/rw", CreateSource: true},
				}
			},
		},
		"privileged": {
			script: `grep -q "Seccomp:.0" /proc/self/status && mount -t tmpfs x /tmp && test -e /dev/null`,
			change: func(b *moss.Bundle) { b.Container.Host.Privileged = true },
		},
		"host namespaces": {
			script: `test -d /proc/` + strconv.Itoa(os.Getpid()) + ` && test -d /dev/shm && test -d /sys/class`,
			change: func(b *moss.Bundle) {
				h := &b.Container.Host
				h.PidMode, h.IpcMode, h.UTSMode = "host", "host", "host"
			},
		},
		"limits": {
			script: `test "$(ulimit -n)" = 64 && test "$(umask)" = 0027 && test "$(cat /proc/self/oom_score_adj)" = 1000`,
			change: func(b *moss.Bundle) {
				umask := uint32(0o027)
				h := &b.Container.Host
				h.Ulimits, h.Umask, h.OomScoreAdj = []moss.Ulimit{{Name: "nofile", Soft: 64, Hard: 128}}, &umask, 1000
			},
		},
		"names": {
			script: `test "$(hostname)" = web1 && test "$(cat /etc/hostname)" = web1 && grep -q up /etc/hosts && test $HOME = /root && test $PWD = /deep/er`,
			change: func(b *moss.Bundle) {
				b.Container.Config.Hostname, b.Container.Config.WorkingDir = "web1", "/deep/er"
				b.Container.Host.ExtraHosts = []string{"up:host-gateway"}
			},
		},
		"ipc sysctl": {
			script: `test "$(cat /proc/sys/kernel/msgmax)" = 4096`,
			change: func(b *moss.Bundle) { b.Container.Host.Sysctls = map[string]string{"kernel.msgmax": "4096"} },
		},
		"user": {
			script: `test "$(id -u) $(id -g) $HOME" = "101 102 /srv/web"`, wantIDs: true,
			change: func(b *moss.Bundle) { b.Container.Config.User = "web" },
		},
	} {
		if tc.wantIDs && !full {
			continue // a namespace of one id has no second user
		}
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			b := r.Bundle(t, "sh", "-ec", tc.script)
			for _, name := range []string{"grep", "touch", "stat", "mount", "test", "hostname"} {
				if err := os.Symlink("busybox", filepath.Join(b.Rootfs.Path, "bin", name)); err != nil {
					t.Fatal(err)
				}
			}
			tc.change(&b)
			l, err := r.r.Prepare(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Launch(t, b.Container.ID, l); err != nil {
				t.Fatal(errors.Join(err, r.r.Failure(&b.Container)))
			}
			if err := r.r.Start(t.Context(), &b.Container); err != nil {
				t.Fatal(err)
			}
			if code := r.Wait(t, b.Container.ID); code != 0 {
				t.Errorf("%s ended with %d", tc.script, code)
			}
			if err := r.r.Delete(t.Context(), &b.Container); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func mapped(t *testing.T) uint32 {
	t.Helper()
	n, err := mappedIDs("/proc/self/gid_map")
	if err != nil {
		t.Fatal(err)
	}
	return n
}
