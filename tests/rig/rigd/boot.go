package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	user    = "alice"
	srcDir  = "/src" // the checkout, read-only
	rigDir  = "/rig" // what supervisor and rig share: sockets, uploaded binaries
	srcEnv  = "MOSS_RIG_SRC"
	rootEnv = "MOSS_RIG_ROOT" // a directory whose files rigs have in place of the machine's
	bootArg = "__boot"
	path    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// masked is what has no business in a rig.
var masked = strings.Fields(`
	getty.target console-getty.service systemd-udevd.service systemd-udevd-control.socket
	systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-timesyncd.service
	systemd-modules-load.service systemd-sysctl.service systemd-binfmt.service
	kmod-static-nodes.service systemd-random-seed.service systemd-pstore.service
	systemd-repart.service systemd-firstboot.service systemd-remount-fs.service
	systemd-networkd.service systemd-resolved.service
	e2scrub_reap.service sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
	sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount
	proc-sys-fs-binfmt_misc.automount tmp.mount`)

// bootInside runs as the first process of the rig's namespaces: it builds the
// root, moves into it and becomes systemd.
func bootInside(dir string, args []string) error {
	if err := build(dir, args[0]); err != nil {
		return fmt.Errorf("cannot build the rig's root: %w", err)
	}
	env := []string{"container=rig", "PATH=" + path, "NOTIFY_SOCKET=" + rigDir + "/notify"}
	return unix.Exec("/sbin/init", []string{"/sbin/init", "--log-target=journal", "--show-status=0"}, env)
}

func build(dir, src string) error {
	// The process was born in the rig's cgroup, but a cgroup namespace made at
	// birth would have the parent's for its root.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("cannot make a cgroup namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// An upper directory inside the file system it covers is refused.
	top := filepath.Join(dir, "mnt")
	if err := unix.Mount("tmpfs", top, "tmpfs", 0, ""); err != nil {
		return err
	}
	root := filepath.Join(top, "root")
	if err := overlays(top, root); err != nil {
		return err
	}
	for _, m := range []struct {
		src, at, kind string
		flags         uintptr
		data          string
	}{
		{"proc", "proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"cgroup2", "sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "nsdelegate"},
		{"tmpfs", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "dev", "tmpfs", unix.MS_NOSUID, "mode=755"},
		{filepath.Join(dir, "home"), "home", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "tmp"), "tmp", "", unix.MS_BIND, ""},
		{filepath.Join(dir, "share"), rigDir, "", unix.MS_BIND, ""},
		{src, srcDir, "", unix.MS_BIND | unix.MS_REC, ""},
		{"", srcDir, "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY, ""},
	} {
		at := filepath.Join(root, m.at)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.src, at, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("cannot mount %s: %w", m.at, err)
		}
	}
	for _, step := range []func(string) error{devices, units, files, account, links} {
		if err := step(root); err != nil {
			return err
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("cannot move into the new root: %w", err)
	}
	return errors.Join(unix.Unmount(".", unix.MNT_DETACH), unix.Chdir("/"))
}

// overlays covers / and every disk file system the machine's own programs and
// settings may lie on.
func overlays(top, root string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lowers := []string{"/"}
	other := os.Getenv(rootEnv)
	if other != "" {
		mounts = nil
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		at := f[1]
		first, _, _ := strings.Cut(strings.TrimPrefix(at, "/"), "/")
		if !slices.Contains([]string{"usr", "var", "etc", "opt", "bin", "sbin", "lib", "lib64"}, first) || strings.HasPrefix(at, "/var/tmp") {
			continue
		}
		if st, err := os.Stat(at); err == nil && st.IsDir() && !slices.Contains(lowers, at) {
			lowers = append(lowers, at)
		}
	}
	slices.Sort(lowers)
	for i, lower := range lowers {
		layer := filepath.Join(top, fmt.Sprint(i))
		at := filepath.Join(root, lower)
		for _, d := range []string{layer + "/upper", layer + "/work", at} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				return err
			}
		}
		if lower == "/" && other != "" {
			lower = other
		}
		opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower, layer, layer)
		if err := unix.Mount("overlay", at, "overlay", 0, opts); err != nil && i == 0 {
			return fmt.Errorf("cannot mount an overlay over %s: %w", lower, err)
		} else if err != nil {
			fmt.Fprintf(os.Stderr, "rig: %s is left out: %v\n", lower, err)
		}
	}
	return nil
}

func devices(root string) error {
	dev := filepath.Join(root, "dev")
	for _, d := range []string{"pts", "shm", "net"} {
		if err := os.Mkdir(filepath.Join(dev, d), 0o755); err != nil {
			return err
		}
	}
	nodes := []struct {
		name         string
		major, minor uint32
	}{
		{"null", 1, 3},
		{"zero", 1, 5},
		{"full", 1, 7},
		{"random", 1, 8},
		{"urandom", 1, 9},
		{"tty", 5, 0},
		{"fuse", 10, 229},
		{"net/tun", 10, 200},
	}
	for _, n := range nodes {
		at := filepath.Join(dev, n.name)
		if err := unix.Mknod(at, unix.S_IFCHR|0o666, int(unix.Mkdev(n.major, n.minor))); err != nil {
			return fmt.Errorf("cannot make /dev/%s: %w", n.name, err)
		}
		if err := os.Chmod(at, 0o666); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Mount("devpts", dev+"/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
		unix.Mount("tmpfs", dev+"/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"),
	)
}

// units keeps the machine's own services out of the rig.
func units(root string) error {
	etc := filepath.Join(root, "etc/systemd/system")
	for _, pattern := range []string{etc + "/*.wants/*", etc + "/*.requires/*", root + "/etc/rc?.d/S*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, f := range found {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
	}
	for _, u := range masked {
		at := filepath.Join(etc, u)
		if err := os.RemoveAll(at); err != nil {
			return err
		}
		if err := os.Symlink("/dev/null", at); err != nil {
			return err
		}
	}
	return nil
}

func files(root string) error {
	id, err := os.ReadFile(filepath.Join(root, rigDir, "machine-id"))
	if err != nil {
		return err
	}
	for at, text := range map[string]string{
		"etc/fstab":      "",
		"etc/hostname":   "rig\n",
		"etc/machine-id": string(id),
		"etc/hosts":      "127.0.0.1 localhost rig\n::1 localhost ip6-localhost\n192.0.2.1 foreign.test\n",
		// Nobody listens there: a look-up is refused at once instead of hanging.
		"etc/resolv.conf": "nameserver 192.0.2.1\n",
	} {
		at = filepath.Join(root, at)
		if err := os.RemoveAll(at); err != nil { // may be a link out of /etc
			return err
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return unix.Sethostname([]byte("rig"))
}

// account makes the user the tests run as, with sub-ids and lingering.
func account(root string) error {
	if err := command("chroot", root, "id", user).Run(); err != nil {
		if err := run1("chroot", root, "useradd", "--create-home", "--shell", "/bin/bash", user); err != nil {
			return err
		}
	}
	for _, f := range []string{"etc/subuid", "etc/subgid"} {
		f = filepath.Join(root, f)
		text, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if bytes.HasPrefix(text, []byte(user+":")) || bytes.Contains(text, []byte("\n"+user+":")) {
			continue
		}
		text = fmt.Appendf(text, "%s:100000:65536\n", user)
		if err := os.WriteFile(f, text, 0o644); err != nil {
			return err
		}
	}
	home := filepath.Join(root, "home", user)
	if _, err := os.Stat(home); errors.Is(err, os.ErrNotExist) {
		if err := os.Mkdir(home, 0o755); err != nil {
			return err
		}
		if err := run1("chroot", root, "chown", user+":", "/home/"+user); err != nil {
			return err
		}
	}
	// Users read their own journal only where it is kept on disk; what tests log is not thrown away.
	for dir, mode := range map[string]os.FileMode{"var/log/journal": 0o2755, "etc/systemd/journald.conf.d": 0o755} {
		if err := os.MkdirAll(filepath.Join(root, dir), mode); err != nil {
			return err
		}
	}
	conf := filepath.Join(root, "etc/systemd/journald.conf.d/rig.conf")
	if err := os.WriteFile(conf, []byte("[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\n"), 0o644); err != nil {
		return err
	}
	linger := filepath.Join(root, "var/lib/systemd/linger")
	if err := os.MkdirAll(linger, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(linger, user), nil, 0o644)
}

// links gives the rig a foreign-looking address of its own and a default
// route, which network drivers look for; everything beyond is unreachable at
// once rather than after a time-out.
func links(string) error {
	if err := run1("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	dev := "rig0"
	if run1("ip", "link", "add", dev, "type", "dummy") != nil {
		// The kernel has no dummy interfaces; a veth pair is as good.
		if err := run1("ip", "link", "add", dev, "type", "veth", "peer", "rig1"); err != nil {
			return err
		}
		if err := run1("ip", "link", "set", "rig1", "up"); err != nil {
			return err
		}
	}
	script := [][]string{
		{"link", "set", dev, "up"},
		{"addr", "add", "192.0.2.1/24", "dev", dev},
		{"-6", "addr", "add", "2001:db8::1/64", "dev", dev, "nodad"},
		{"route", "add", "default", "via", "192.0.2.254", "dev", dev},
		{"route", "add", "unreachable", "0.0.0.0/1"},
		{"route", "add", "unreachable", "128.0.0.0/1"},
		{"-6", "route", "add", "default", "via", "2001:db8::ff", "dev", dev},
		{"-6", "route", "add", "unreachable", "::/1"},
		{"-6", "route", "add", "unreachable", "8000::/1"},
	}
	for _, args := range script {
		if err := run1("ip", args...); err != nil && args[0] != "-6" { // a machine may have no IPv6
			return err
		}
	}
	// As distributions set it: ping without privilege.
	return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0o644)
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = []string{"PATH=" + path}
	return cmd
}

func run1(name string, args ...string) error {
	if out, err := command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
