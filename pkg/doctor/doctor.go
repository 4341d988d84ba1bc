// Package doctor checks whether a machine and its user have what moss needs.
// [Gather] collects facts, [Examine] judges them; Examine is a pure function.
package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/names"
)

// Verdict is how a check came out.
type Verdict uint8

// The verdicts: Warn works with less, Fail does not work.
const (
	OK Verdict = iota
	Warn
	Fail
)

func (v Verdict) String() string { return [...]string{"ok", "warn", "FAIL"}[v] }

// Check is one thing that was looked at.
type Check struct {
	Name    string
	Verdict Verdict
	Detail  string
	Mend    string // one command that mends it; empty when there is nothing to mend
}

// Facts are what the checks judge. Nil pointers are settings the kernel does not have.
type Facts struct {
	User   string
	UID    int
	Prefix string

	Kernel            string // as uname -r says
	UsernsClone       *int   // kernel.unprivileged_userns_clone
	MaxUserNamespaces *int   // user.max_user_namespaces
	AppArmorRestricts *int   // kernel.apparmor_restrict_unprivileged_userns
	UsernsError       error  // of making a user namespace
	SubUIDs, SubGIDs  uint64 // how many the user has
	FreeSubID         uint64 // from here on no user has subordinate ids
	SubIDError        error
	Newuidmap         Helper
	Newgidmap         Helper
	RuntimeDir        string // $XDG_RUNTIME_DIR
	RuntimeDirError   error
	Systemd           int // version of the user manager
	SystemdError      error
	Service           bool // moss system service stands in for the user manager
	CgroupV2          bool
	Controllers       []string
	ControllersError  error
	Lingers           bool
	Pasta, Slirp      string // paths
	Gvisor            string // path of moss-gvisor
	TunError          error  // of opening /dev/net/tun
	Driver, DriverWhy string // of the running holder
	DriverBetter      string // what another would bring
	DriverIPv6        bool   // IPv6 goes out
	DriverPassed      bool   // TCP goes out past it
	DriverPassedWhy   string // why it does not, where it should
	PingRange         string // net.ipv4.ping_group_range; "" where the kernel has none
	GIDs              []int  // groups of the user
	DataDir, DataFS   string // file system below the data directory
	Overlay           bool   // the kernel has overlay
	FuseOverlayfs     string // path
	UnitsInstalled    bool
	Socket            string
	SocketError       error // of asking the daemon through the socket
}

// Helper is a program that needs privileges.
type Helper struct {
	Path       string // empty when it is not installed
	Privileged bool   // setuid root, or with file capabilities
}

const (
	leastSubIDs  = 65536
	leastSystemd = 246 // BARRIER=1 and FDPOLL=0 of sd_notify(3)
)

// Examine judges the facts, most basic first.
func Examine(f Facts) []Check {
	return []Check{
		kernel(f), userNamespaces(f), subIDs(f),
		helper("newuidmap", f.Newuidmap), helper("newgidmap", f.Newgidmap),
		runtimeDir(f), manager(f), delegation(f), lingering(f), network(f), pinging(f), storage(f), socket(f),
	}
}

// Worst is the worst verdict of the checks.
func Worst(checks []Check) Verdict {
	worst := OK
	for _, c := range checks {
		worst = max(worst, c.Verdict)
	}
	return worst
}

func kernel(f Facts) Check {
	const name = "kernel"
	var major, minor int
	if _, err := fmt.Sscanf(f.Kernel, "%d.%d", &major, &minor); err != nil {
		return Check{name, Warn, "cannot read the version " + strconv.Quote(f.Kernel), "uname -r"}
	}
	if major < 5 || major == 5 && minor < 11 {
		return Check{name, Fail, f.Kernel + " cannot mount overlay in a user namespace; that needs 5.11", "sudo apt full-upgrade"}
	}
	return Check{Name: name, Detail: f.Kernel}
}

func sysctl(setting string) string {
	return "echo " + setting + " | sudo tee /etc/sysctl.d/99-moss.conf && sudo sysctl --system"
}

func userNamespaces(f Facts) Check {
	const name = "user namespaces"
	switch {
	case f.UsernsClone != nil && *f.UsernsClone == 0:
		return Check{name, Fail, "kernel.unprivileged_userns_clone is 0", sysctl("kernel.unprivileged_userns_clone=1")}
	case f.MaxUserNamespaces != nil && *f.MaxUserNamespaces < 16:
		return Check{name, Fail, fmt.Sprintf("user.max_user_namespaces is %d", *f.MaxUserNamespaces), sysctl("user.max_user_namespaces=28633")}
	case f.AppArmorRestricts != nil && *f.AppArmorRestricts != 0:
		return Check{name, Fail, "AppArmor takes the capabilities in user namespaces away", sysctl("kernel.apparmor_restrict_unprivileged_userns=0")}
	case f.UsernsError != nil:
		return Check{name, Fail, "cannot make one: " + f.UsernsError.Error(), sysctl("user.max_user_namespaces=28633")}
	}
	return Check{Name: name, Detail: "an unprivileged user can make them"}
}

func subIDs(f Facts) Check {
	const name = "subordinate ids"
	first := max(f.FreeSubID, 100000)
	add := fmt.Sprintf("sudo usermod --add-subuids %d-%d --add-subgids %d-%d %s", first, first+leastSubIDs-1, first, first+leastSubIDs-1, f.User)
	switch {
	case f.SubIDError != nil:
		return Check{name, Fail, f.SubIDError.Error(), add}
	case f.SubUIDs == 0 || f.SubGIDs == 0:
		return Check{name, Fail, fmt.Sprintf("%s has %d user and %d group ids", f.User, f.SubUIDs, f.SubGIDs), add}
	case f.SubUIDs < leastSubIDs || f.SubGIDs < leastSubIDs:
		return Check{name, Warn, fmt.Sprintf("%s has %d user and %d group ids; images may use any of %d", f.User, f.SubUIDs, f.SubGIDs, leastSubIDs), add}
	}
	return Check{Name: name, Detail: fmt.Sprintf("%d user and %d group ids", f.SubUIDs, f.SubGIDs)}
}

func helper(name string, h Helper) Check {
	switch {
	case h.Path == "":
		return Check{name, Fail, "is not installed", "sudo apt install uidmap"}
	case !h.Privileged:
		return Check{name, Fail, h.Path + " is neither setuid root nor has it file capabilities", "sudo chmod u+s " + h.Path}
	}
	return Check{Name: name, Detail: h.Path}
}

func linger(user string) string { return "sudo loginctl enable-linger " + user }

func runtimeDir(f Facts) Check {
	const name = "run-time directory"
	switch {
	case f.RuntimeDir == "":
		return Check{
			name, Fail, "XDG_RUNTIME_DIR is not set: this is no login of systemd-logind (su and sudo are none)",
			linger(f.User) + " && export XDG_RUNTIME_DIR=/run/user/" + strconv.Itoa(f.UID),
		}
	case f.RuntimeDirError != nil:
		return Check{name, Fail, f.RuntimeDirError.Error(), linger(f.User)}
	}
	return Check{Name: name, Detail: f.RuntimeDir}
}

func manager(f Facts) Check {
	const name = "systemd --user"
	switch {
	case f.Service:
		return Check{Name: name, Verdict: Warn, Detail: "moss system service stands in for it: no limits"}
	case f.SystemdError != nil:
		return Check{name, Fail, f.SystemdError.Error() + "; where it cannot be had, run: moss system service", "sudo apt install dbus-user-session libpam-systemd && " + linger(f.User)}
	case f.Systemd < leastSystemd:
		return Check{name, Fail, fmt.Sprintf("version %d is older than %d", f.Systemd, leastSystemd), "sudo apt full-upgrade"}
	case f.Systemd < 254:
		return Check{Name: name, Detail: fmt.Sprintf("version %d; from 254 on, containers keep their output also while %s.service is stopped", f.Systemd, f.Prefix)}
	}
	return Check{Name: name, Detail: fmt.Sprintf("version %d", f.Systemd)}
}

func delegation(f Facts) Check {
	const name = "resource limits"
	if f.Service {
		return Check{Name: name, Verdict: Warn, Detail: "none can be set: they take systemd's user manager"}
	}
	if !f.CgroupV2 {
		return Check{
			name, Warn, "the machine has cgroup v1 controllers; no limits can be set",
			"sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub && sudo update-grub",
		}
	}
	if f.ControllersError != nil {
		return Check{name, Warn, f.ControllersError.Error(), "systemctl --user status"}
	}
	var missing []string
	for _, c := range []string{"cpu", "cpuset", "io", "memory", "pids"} {
		if !slices.Contains(f.Controllers, c) {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return Check{Name: name, Detail: "the user has the controllers " + strings.Join(f.Controllers, ", ")}
	}
	return Check{
		name, Warn, "the user's systemd has not the controllers " + strings.Join(missing, ", ") + "; limits of these kinds cannot be set",
		`printf '[Service]\nDelegate=cpu cpuset io memory pids\n' | sudo install -D -m 644 /dev/stdin /etc/systemd/system/user@.service.d/moss.conf && sudo systemctl daemon-reload && sudo systemctl restart user@` + strconv.Itoa(f.UID),
	}
}

func lingering(f Facts) Check {
	const name = "lingering"
	if f.Service {
		return Check{Name: name, Detail: "containers run as long as moss system service does"}
	}
	if f.Lingers {
		return Check{Name: name, Detail: "containers run without a login"}
	}
	return Check{name, Warn, "containers end with the last logout and do not start at boot", linger(f.User)}
}

// restartHolder makes new namespaces, which ends the containers.
func restartHolder(f Facts) string {
	if f.Service {
		return "end moss system service and start it anew"
	}
	return "systemctl --user restart " + f.Prefix + "-rootless"
}

func network(f Facts) Check {
	c := driver(f)
	if f.Gvisor == "" && f.TunError == nil {
		c.Detail += "; " + names.DriverGvisor + " is not to be had: " + names.Gvisor + " is not installed beside moss"
	}
	return c
}

func driver(f Facts) Check {
	const name = "network driver"
	if f.TunError != nil {
		return Check{name, Fail, "no driver works without /dev/net/tun: " + f.TunError.Error(), "sudo modprobe tun && sudo chmod 0666 /dev/net/tun"}
	}
	if f.Driver != "" {
		c := Check{Name: name, Detail: f.Driver + " (" + f.DriverWhy + ")"}
		if f.DriverIPv6 {
			c.Detail += ", with IPv6"
		}
		if f.DriverPassed {
			c.Detail += "; TCP goes out past it"
		}
		if f.DriverPassedWhy != "" {
			c.Detail += "; TCP goes out through it: " + f.DriverPassedWhy
		}
		if f.DriverBetter != "" {
			c.Detail += "; " + f.DriverBetter
		}
		switch {
		case f.Driver == names.DriverGvisor && f.Slirp == "":
			c.Verdict, c.Mend = Warn, "sudo apt install slirp4netns, and: "+restartHolder(f)
		case f.Driver == names.DriverGvisor,
			f.Driver == names.DriverPasta && f.DriverBetter != "": // an old one: it is wrong about half-closed connections
			c.Verdict, c.Mend = Warn, `set "moss-network-driver": "auto" in daemon.json, and: `+restartHolder(f)
		}
		return c
	}
	switch {
	case f.Pasta != "" && f.Slirp != "":
		return Check{Name: name, Detail: "pasta where it is of late 2024 or newer (older ones may send data twice at the end of a connection), else slirp4netns"}
	case f.Slirp != "":
		return Check{Name: name, Detail: "slirp4netns; a pasta of late 2024 or newer is faster"}
	case f.Pasta == "" && f.Gvisor == "":
		return Check{name, Fail, "there is none: neither pasta nor slirp4netns is installed", "sudo apt install slirp4netns"}
	case f.Pasta != "":
		return Check{name, Warn, "pasta where it is of late 2024 or newer (older ones may send data twice at the end of a connection), else moss's own gvisor-tap-vsock, which takes more memory and cpu", "sudo apt install slirp4netns"}
	}
	return Check{name, Warn, "moss's own gvisor-tap-vsock; slirp4netns takes less memory and cpu", "sudo apt install slirp4netns"}
}

// pinging is about the outside: a network driver asks on behalf of containers, as
// the user, with the sockets of icmp(7) that groups must be let have.
func pinging(f Facts) Check {
	const name = "ping"
	if f.Driver == names.DriverNone {
		return Check{Name: name, Detail: "containers have no way out: the network driver is none"}
	}
	if f.PingRange == "" {
		return Check{Name: name, Detail: "the kernel does not say who may"}
	}
	var low, high int
	if _, err := fmt.Sscanf(f.PingRange, "%d %d", &low, &high); err != nil {
		return Check{name, Warn, "cannot read net.ipv4.ping_group_range " + strconv.Quote(f.PingRange), "sysctl net.ipv4.ping_group_range"}
	}
	if slices.ContainsFunc(f.GIDs, func(g int) bool { return low <= g && g <= high }) {
		return Check{Name: name, Detail: "containers can ping the outside"}
	}
	return Check{
		name, Warn, fmt.Sprintf("containers cannot ping the outside: net.ipv4.ping_group_range is %d to %d, and no group of %s is among them", low, high, f.User),
		sysctl("'net.ipv4.ping_group_range=0 2147483647'"),
	}
}

func storage(f Facts) Check {
	const name = "storage"
	where := " at " + f.DataDir + " (" + f.DataFS + ")"
	move := `mkdir -p ~/.config/` + f.Prefix + ` && echo '{"data-root": "/var/tmp/` + f.Prefix + `-` + f.User + `"}' > ~/.config/` + f.Prefix + `/daemon.json`
	switch f.DataFS {
	case "nfs", "cifs", "9p":
		return Check{name, Fail, "a network file system has no owners other than the user's" + where + "; use a local one", move}
	case "vfat", "exfat", "ntfs":
		return Check{name, Fail, "the file system has no owners and modes" + where, move}
	case "overlay", "ecryptfs":
		if f.FuseOverlayfs != "" {
			return Check{Name: name, Detail: "fuse-overlayfs, as overlay does not go on top of" + where}
		}
		return Check{name, Warn, "vfs, which copies whole images, as overlay does not go on top of" + where, "sudo apt install fuse-overlayfs"}
	}
	switch {
	case f.Overlay:
		return Check{Name: name, Detail: "overlay" + where}
	case f.FuseOverlayfs != "":
		return Check{name, Warn, "fuse-overlayfs, as the kernel has no overlay" + where, "sudo modprobe overlay"}
	}
	return Check{name, Warn, "vfs, which copies whole images, as the kernel has no overlay" + where, "sudo modprobe overlay"}
}

func socket(f Facts) Check {
	const name = "engine"
	setup := "moss setup"
	if f.Prefix != "moss" {
		setup += " --prefix " + f.Prefix
	}
	switch {
	case f.Service && f.SocketError != nil:
		return Check{name, Fail, f.SocketError.Error() + "; why, says moss system service", "end moss system service and start it anew"}
	case f.Service:
	case !f.UnitsInstalled:
		return Check{name, Warn, "is not set up", setup}
	case f.SocketError != nil:
		p := f.Prefix
		return Check{
			name, Fail, f.SocketError.Error() + fmt.Sprintf("; why, says: journalctl --user -u %s -u %s-rootless", p, p),
			fmt.Sprintf("systemctl --user reset-failed %s.service %s-rootless.service %s.socket; systemctl --user restart %s.socket", p, p, p, p),
		}
	}
	return Check{Name: name, Detail: "answers at " + f.Socket}
}
