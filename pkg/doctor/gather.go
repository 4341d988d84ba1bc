package doctor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/names"
)

// Manager is what is asked of the user's systemd; *units.Manager has it.
type Manager interface {
	Version(ctx context.Context) (int, string, error)
	Controllers(ctx context.Context) ([]string, error)
}

// Options say what Gather looks at.
type Options struct {
	Prefix  string // default "moss"
	DataDir string // of the engine
	Socket  string // of the engine
	// Connect reaches the user's systemd.
	Connect func(ctx context.Context) (Manager, error)
}

const askTimeout = 10 * time.Second

// Gather collects the facts. What cannot be found out is part of them.
func Gather(ctx context.Context, o Options) Facts {
	f := Facts{
		UID: os.Getuid(), Prefix: o.Prefix, DataDir: o.DataDir, Socket: o.Socket,
		UsernsClone:       number("/proc/sys/kernel/unprivileged_userns_clone"),
		MaxUserNamespaces: number("/proc/sys/user/max_user_namespaces"),
		AppArmorRestricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
		UsernsError:       tryUserns(ctx),
		Newuidmap:         findHelper("newuidmap"), Newgidmap: findHelper("newgidmap"),
		Pasta: find(names.DriverPasta), Slirp: find(names.DriverSlirp), FuseOverlayfs: find("fuse-overlayfs"),
		Overlay: hasFilesystem("overlay"), DataFS: filesystem(o.DataDir),
	}
	if f.Prefix == "" {
		f.Prefix = "moss"
	}
	f.Gvisor, _ = names.Find(names.Gvisor) // without it the driver is not to be had
	f.User, f.Lingers = Lingers()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		f.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	f.TunError = tryOpen("/dev/net/tun")
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ping_group_range"); err == nil {
		f.PingRange = strings.TrimSpace(string(text))
	}
	f.GIDs = []int{os.Getegid()}
	if more, err := os.Getgroups(); err == nil {
		f.GIDs = append(f.GIDs, more...)
	}
	f.subIDs(ctx)
	f.CgroupV2 = exists("/sys/fs/cgroup/cgroup.controllers")
	f.runtime()
	f.manager(ctx, o.Connect)
	f.engine(ctx)
	return f
}

// Lingers says whether this user's manager runs without a login.
func Lingers() (name string, lingers bool) {
	name = strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return name, exists("/var/lib/systemd/linger/" + name)
}

func (f *Facts) runtime() {
	f.RuntimeDir = os.Getenv("XDG_RUNTIME_DIR")
	if f.RuntimeDir == "" {
		return
	}
	var st unix.Stat_t
	switch err := unix.Stat(f.RuntimeDir, &st); {
	case err != nil:
		f.RuntimeDirError = fmt.Errorf("cannot use %s: %w", f.RuntimeDir, err)
	case int(st.Uid) != f.UID:
		f.RuntimeDirError = fmt.Errorf("%s belongs to user %d", f.RuntimeDir, st.Uid)
	}
}

func (f *Facts) manager(ctx context.Context, connect func(context.Context) (Manager, error)) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := connect(ctx)
	if err != nil {
		f.SystemdError, f.ControllersError = err, err
		return
	}
	f.Systemd, _, f.SystemdError = m.Version(ctx)
	f.Controllers, f.ControllersError = m.Controllers(ctx)
}

// engine asks the daemon. A socket that is not there is no daemon that fails.
func (f *Facts) engine(ctx context.Context) {
	config := os.Getenv("XDG_CONFIG_HOME")
	if home, err := os.UserHomeDir(); err == nil && !filepath.IsAbs(config) {
		config = filepath.Join(home, ".config")
	}
	for _, dir := range []string{config, f.RuntimeDir} {
		f.UnitsInstalled = f.UnitsInstalled || exists(filepath.Join(dir, "systemd", "user", f.Prefix+".service"))
	}
	if f.RuntimeDir != "" {
		f.Service = serviceRuns(ctx, filepath.Join(f.RuntimeDir, f.Prefix))
	}
	if !f.UnitsInstalled && !f.Service {
		return
	}
	f.SocketError = ping(ctx, f.Socket)
	data, err := os.ReadFile(filepath.Join(filepath.Dir(f.Socket), "rootless", "info.json"))
	if err != nil {
		return
	}
	var info struct {
		NetworkDriver, Why, Better string
		IPv6                       bool
		WayOut                     *struct{}
		WayOutWhy                  string
	}
	if json.Unmarshal(data, &info) == nil {
		f.Driver, f.DriverWhy, f.DriverBetter, f.DriverIPv6 = info.NetworkDriver, info.Why, info.Better, info.IPv6
		f.DriverPassed, f.DriverPassedWhy = info.WayOut != nil, info.WayOutWhy
	}
}

// serviceRuns says whether a moss system service has an engine's run-time directory: it listens for the daemon there.
func serviceRuns(ctx context.Context, run string) bool {
	c, err := (&net.Dialer{}).DialContext(ctx, "unixpacket", filepath.Join(run, "units.sock"))
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was asked
	return true
}

func ping(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://moss/_ping", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return fmt.Errorf("does not answer at %s: %w", socket, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answers %q at %s", res.Status, socket)
	}
	return nil
}

// subIDs counts the user's ranges: by getsubids where the name service switch
// has a source for them other than the files, else in the files.
func (f *Facts) subIDs(ctx context.Context) {
	dynamic := false
	if data, err := os.ReadFile("/etc/nsswitch.conf"); err == nil {
		for line := range strings.Lines(string(data)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "subid:"); ok {
				dynamic = strings.TrimSpace(v) != "files"
			}
		}
	}
	for _, kind := range []struct {
		file, flag string
		count      *uint64
	}{{"/etc/subuid", "", &f.SubUIDs}, {"/etc/subgid", "-g", &f.SubGIDs}} {
		var err error
		if dynamic {
			*kind.count, err = getsubids(ctx, f.User, kind.flag)
		} else {
			var data []byte
			if data, err = os.ReadFile(kind.file); err == nil {
				var free uint64
				*kind.count, free = countSubIDs(string(data), f.User, f.UID)
				f.FreeSubID = max(f.FreeSubID, free)
			}
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
		if err != nil && f.SubIDError == nil {
			f.SubIDError = err
		}
	}
}

// countSubIDs reads a file as subuid(5): how many ids the user has, and where
// the ranges of all users end.
func countSubIDs(text, name string, uid int) (count, free uint64) {
	for line := range strings.Lines(text) {
		p := strings.Split(strings.TrimSpace(line), ":")
		if len(p) != 3 {
			continue
		}
		start, err1 := strconv.ParseUint(p[1], 10, 32)
		n, err2 := strconv.ParseUint(p[2], 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		free = max(free, start+n)
		if p[0] == name || p[0] == strconv.Itoa(uid) {
			count += n
		}
	}
	return count, free
}

// getsubids runs getsubids(1): "0: alice 100000 65536".
func getsubids(ctx context.Context, name, flag string) (uint64, error) {
	args := []string{name}
	if flag != "" {
		args = []string{flag, name}
	}
	out, err := exec.CommandContext(ctx, "getsubids", args...).Output()
	if err != nil {
		return 0, fmt.Errorf("getsubids %s: %w", strings.Join(args, " "), err)
	}
	var count uint64
	for line := range strings.Lines(string(out)) {
		if p := strings.Fields(line); len(p) == 4 {
			if n, err := strconv.ParseUint(p[3], 10, 32); err == nil {
				count += n
			}
		}
	}
	return count, nil
}

// tryUserns starts a program in a user namespace of its own.
func tryUserns(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	return cmd.Run()
}

func tryOpen(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func find(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return ""
	}
	return path
}

func findHelper(program string) Helper {
	h := Helper{Path: find(program)}
	var st unix.Stat_t
	if h.Path == "" || unix.Stat(h.Path, &st) != nil {
		return h
	}
	setuid := st.Mode&unix.S_ISUID != 0 && st.Uid == 0
	n, err := unix.Getxattr(h.Path, "security.capability", nil)
	h.Privileged = setuid || err == nil && n > 0
	return h
}

func number(path string) *int {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return nil
	}
	return &n
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// hasFilesystem looks into /proc/filesystems; a module that is not loaded is
// not there yet, so its file counts as well.
func hasFilesystem(name string) bool {
	file, err := os.Open("/proc/filesystems")
	if err != nil {
		return false
	}
	defer file.Close()
	for sc := bufio.NewScanner(file); sc.Scan(); {
		if p := strings.Fields(sc.Text()); len(p) > 0 && p[len(p)-1] == name {
			return true
		}
	}
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return false
	}
	modules, err := filepath.Glob("/lib/modules/" + unix.ByteSliceToString(uts.Release[:]) + "/kernel/fs/*/" + name + ".ko*")
	return err == nil && len(modules) > 0
}

var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.CIFS_SUPER_MAGIC: "cifs", unix.SMB2_SUPER_MAGIC: "cifs",
	unix.V9FS_MAGIC: "9p", unix.MSDOS_SUPER_MAGIC: "vfat", unix.EXFAT_SUPER_MAGIC: "exfat", unix.ECRYPTFS_SUPER_MAGIC: "ecryptfs",
	unix.F2FS_SUPER_MAGIC: "f2fs", unix.FUSE_SUPER_MAGIC: "fuse", 0x2fc12fc1: "zfs", 0xca451a4e: "bcachefs", 0x7366746e: "ntfs",
}

// filesystem names the file system that a directory is, or will be, on.
func filesystem(dir string) string {
	var st unix.Statfs_t
	for unix.Statfs(dir, &st) != nil {
		parent := filepath.Dir(dir)
		if parent == dir {
			return "unknown"
		}
		dir = parent
	}
	if name, ok := fileSystems[int64(st.Type)&0xffffffff]; ok {
		return name
	}
	return fmt.Sprintf("type %#x", int64(st.Type)&0xffffffff)
}
