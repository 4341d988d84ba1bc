package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moss-containers/moss/tests/rig"
	"golang.org/x/sys/unix"
)

// bootTimeout is far above the second a boot takes; it is there for a boot
// that hangs.
const bootTimeout = 90 * time.Second

// machine is one rig: a directory, a cgroup, and while it is up an init.
type machine struct {
	name, dir, cgroup, src string
	lock                   *os.File // held while someone looks after the rig
	onMain                 func(func() error) error

	mu   sync.Mutex
	life *life // nil while down
}

// life is the time between one boot and the death of its init.
type life struct {
	init *os.Process
	over chan struct{} // closed once init is reaped: nothing in the rig runs any more
}

// claim takes the rig's lock and clears what an earlier supervisor left.
func claim(name, src string, onMain func(func() error) error) (*machine, error) {
	root, err := cgroup2()
	if err != nil {
		return nil, err
	}
	m := &machine{
		name: name, dir: filepath.Join(rig.Base, name), src: src, onMain: onMain,
		cgroup: filepath.Join(root, "moss-rig-"+name),
	}
	if err := os.MkdirAll(rig.Base, 0o755); err != nil {
		return nil, err
	}
	if m.lock, err = lock(name); err != nil {
		return nil, err
	}
	if err := m.wipe(); err != nil {
		m.lock.Close()
		return nil, fmt.Errorf("cannot clear the leftovers of rig %q: %w", name, err)
	}
	return m, nil
}

// lock waits for a supervisor that is just ending, and refuses one that is
// well.
func lock(name string) (*os.File, error) {
	path := filepath.Join(rig.Base, name+".lock")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			if conn, err := net.Dial("unixpacket", rig.Socket(name)); err == nil {
				conn.Close()
				f.Close()
				return nil, fmt.Errorf("rig %q is already up (rig down %s ends it)", name, name)
			}
			err = flockWithin(f, 30*time.Second)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("cannot lock rig %q: %w", name, err)
		}
		// The one before may have removed the file it had locked.
		var held, there unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &held); err != nil {
			return nil, err
		}
		if unix.Stat(path, &there) == nil && there.Ino == held.Ino {
			return f, nil
		}
		f.Close()
	}
}

func flockWithin(f *os.File, limit time.Duration) error {
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-got:
		return err
	case <-time.After(limit):
		return errors.New("its supervisor neither answers nor ends")
	}
}

// boot starts init in new namespaces and returns when systemd and the user's
// manager are up.
func (m *machine) boot() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil {
		return fmt.Errorf("rig %q is up", m.name)
	}
	if err := m.prepare(); err != nil {
		return err
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(m.dir, "share/notify"), Net: "unixgram"})
	if err != nil {
		return err
	}
	defer notify.Close()
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cg, err := os.Open(m.cgroup)
	if err != nil {
		return err
	}
	defer cg.Close()

	src, err := m.readable()
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", bootArg, m.dir, src)
	cmd.Dir, cmd.Env = "/", []string{"PATH=" + path, rootEnv + "=" + os.Getenv(rootEnv)}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{
		Setsid:      true,
		Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		UseCgroupFD: true, CgroupFD: int(cg.Fd()),
		// Whatever ends the supervisor ends the rig, kill -9 included.
		Pdeathsig: unix.SIGKILL,
	}
	if err := m.onMain(cmd.Start); err != nil {
		return fmt.Errorf("cannot start rig %q: %w", m.name, err)
	}
	l := &life{init: cmd.Process, over: make(chan struct{})}
	go func() {
		cmd.Wait() // how init died does not matter
		notify.Close()
		close(l.over)
	}()
	if err := m.settle(l, notify); err != nil {
		text, _ := os.ReadFile(filepath.Join(m.dir, "log"))
		return errors.Join(fmt.Errorf("rig %q did not come up: %w\n%s", m.name, err, text), m.end(l))
	}
	m.life = l
	return nil
}

// settle waits for systemd's READY=1, then for the user's manager.
func (m *machine) settle(l *life, notify *net.UnixConn) error {
	if err := notify.SetReadDeadline(time.Now().Add(bootTimeout)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	for msg := ""; !strings.Contains("\n"+msg, "\nREADY=1"); {
		n, err := notify.Read(buf)
		if err != nil {
			jobs, _ := nsenter(context.Background(), l, "systemctl", "list-jobs", "--no-pager").CombinedOutput()
			return fmt.Errorf("systemd is not ready: %w\n%s", err, jobs)
		}
		msg = string(buf[:n])
	}
	script := "systemctl start user@$(id -u " + user + ").service"
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	if out, err := nsenter(ctx, l, "sh", "-c", script).CombinedOutput(); err != nil {
		journal, _ := nsenter(context.Background(), l, "journalctl", "-b", "--no-pager", "-n", "50").CombinedOutput()
		return fmt.Errorf("no user manager: %w: %s\n%s", err, out, journal)
	}
	return nil
}

// prepare makes what lasts over reboots and empties what does not.
func (m *machine) prepare() error {
	id := filepath.Join(m.dir, "share/machine-id")
	tmp := filepath.Join(m.dir, "tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	for _, d := range []string{"home", "tmp", "share/bin", "share/pub", "mnt"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			return err
		}
	}
	// pub is where the rig's user may leave something for the host.
	for _, d := range []string{tmp, filepath.Join(m.dir, "share/pub")} {
		if err := os.Chmod(d, 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(m.dir, "share/name"), []byte(m.name+"\n"), 0o644); err != nil {
		return err
	}
	if _, err := os.Stat(id); errors.Is(err, fs.ErrNotExist) {
		var raw [16]byte
		rand.Read(raw[:]) // never fails
		if err := os.WriteFile(id, fmt.Appendf(nil, "%x\n", raw), 0o444); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(m.dir, "share/notify")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Where the machine has controllers to give, the rig has limits.
	for _, c := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
		_ = os.WriteFile(filepath.Join(filepath.Dir(m.cgroup), "cgroup.subtree_control"), []byte("+"+c), 0)
	}
	if err := os.Mkdir(m.cgroup, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make the rig's cgroup: %w", err)
	}
	return nil
}

// readable is the checkout as the rig's user can read it: as it is, or a copy
// where something in it is for its owner's eyes only. A copy is as old as the
// boot.
func (m *machine) readable() (string, error) {
	closed := errors.New("not for others")
	err := filepath.WalkDir(m.src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // someone is working there
			return nil
		}
		switch {
		case err != nil:
			return err
		case d.IsDir() && info.Mode()&0o005 != 0o005, d.Type().IsRegular() && info.Mode()&0o004 == 0:
			return closed
		}
		return nil
	})
	if err == nil {
		return m.src, nil
	}
	if !errors.Is(err, closed) {
		return "", err
	}
	dst := filepath.Join(m.dir, "src")
	if err := os.RemoveAll(dst); err != nil {
		return "", err
	}
	if err := run1("cp", "-a", m.src, dst); err != nil {
		return "", err
	}
	return dst, run1("chmod", "-R", "a+rX", dst)
}

// current is the rig's present life.
func (m *machine) current() (*life, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == nil {
		return nil, fmt.Errorf("rig %q is down", m.name)
	}
	return m.life, nil
}

// halt kills every process of the rig and waits for their death.
func (m *machine) halt() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == nil {
		return nil
	}
	err := m.end(m.life)
	m.life = nil
	return err
}

func (m *machine) end(l *life) error {
	if err := l.init.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-l.over
	return removeCgroup(m.cgroup)
}

// release ends the rig and leaves nothing of it.
func (m *machine) release() error {
	err := errors.Join(m.halt(), m.wipe(), os.Remove(m.lock.Name()))
	return errors.Join(err, m.lock.Close())
}

func (m *machine) wipe() error {
	return errors.Join(removeCgroup(m.cgroup), os.RemoveAll(m.dir))
}

// nsenter prepares a command as root in all namespaces of the rig.
func nsenter(ctx context.Context, l *life, args ...string) *exec.Cmd {
	full := append([]string{"-t", fmt.Sprint(l.init.Pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", full...)
	cmd.Env = []string{"PATH=" + path}
	cmd.Dir = "/"
	return cmd
}

// cgroup2 finds the unified hierarchy: the only one, or a hybrid host's
// second.
func cgroup2() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("no cgroup2 is mounted (mount -t cgroup2 cgroup2 /sys/fs/cgroup)")
}

// removeCgroup kills what is left in a cgroup, waits until it is empty and
// removes it with all below it.
func removeCgroup(path string) error {
	events, err := os.Open(filepath.Join(path, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer events.Close()
	if err := os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0); err != nil {
		return fmt.Errorf("cannot kill the processes in %s: %w", path, err)
	}
	deadline := time.Now().Add(20 * time.Second)
	buf := make([]byte, 256)
	for {
		n, err := events.ReadAt(buf, 0)
		if n == 0 {
			return err
		}
		if strings.Contains(string(buf[:n]), "populated 0") {
			break
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("%s does not become empty", path)
		}
		fds := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	var dirs []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, unix.Rmdir(d))
	}
	return err
}
