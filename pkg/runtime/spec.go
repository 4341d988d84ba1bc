package runtime

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

// Version is the version of the OCI runtime specification that bundles are
// marked with: runtimes of old distributions refuse newer ones, and need nothing of them.
const Version = "1.0.2"

// Docker's lists of what a container must not see and not change. A path that a
// machine does not have is skipped by the runtime.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// selinuxfs is where programs ask the kernel about SELinux; where it is missing they take it to be off.
const selinuxfs = "/sys/fs/selinux"

// Spec is the OCI configuration of a container. It is a pure function: what it
// needs from files is in the accounts and the environment. Errors are Invalid or
// NotImplemented, in docker's words where it has some.
//
// The specification names no cgroup path and no limits: the container lives in
// its unit's cgroup, and the limits are the unit's properties.
func Spec(b moss.Bundle, a Accounts, env Environment) (*specs.Spec, error) {
	c := b.Container
	if c.IDMaps != nil {
		env.IDs = min(moss.IDsFromZero(c.IDMaps.UIDs), moss.IDsFromZero(c.IDMaps.GIDs))
	}
	proc, err := process(c, a, env)
	if err != nil {
		return nil, err
	}
	spec := &specs.Spec{
		Version:     Version,
		Process:     proc,
		Root:        &specs.Root{Path: b.Rootfs.Path, Readonly: c.Host.ReadonlyRootfs},
		Annotations: annotations(c.Host),
		Linux:       &specs.Linux{MountLabel: c.SELinux.Mount},
	}
	if spec.Linux.Namespaces, err = namespaces(b); err != nil {
		return nil, err
	}
	if c.IDMaps != nil {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = idMappings(c.IDMaps.UIDs), idMappings(c.IDMaps.GIDs)
	}
	if c.Host.UTSMode != "host" {
		spec.Hostname, spec.Domainname = c.Config.Hostname, c.Config.Domainname
	}
	if spec.Linux.Sysctl, err = sysctls(c.Host, env); err != nil {
		return nil, err
	}
	if c.IDMaps != nil {
		spec.Linux.Sysctl = inOwnUserns(spec.Linux.Sysctl)
	}
	if spec.Mounts, spec.Linux.RootfsPropagation, err = mounts(b, env); err != nil {
		return nil, err
	}
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = hiddenPaths(c.Host)
	if c.Host.Privileged {
		// A user cannot make nodes: the runtime binds the host's.
		spec.Linux.Devices = env.Devices
	}
	if spec.Linux.Seccomp, err = seccompProfile(c.Host.Seccomp, c.Host.Privileged, spec); err != nil {
		return nil, err
	}
	return spec, nil
}

func idMappings(in []moss.IDMap) (out []specs.LinuxIDMapping) {
	for _, m := range in {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.Container, HostID: m.Engine, Size: m.Size})
	}
	return out
}

// namespaces lists those the container has of its own; one that it shares with
// the host is not named. The user namespace is the engine's unless the container has maps.
func namespaces(b moss.Bundle) ([]specs.LinuxNamespace, error) {
	h := b.Container.Host
	out := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	// An attachment without a namespace is the host's network.
	if b.Attachment.NetNS != "" {
		out = append(out, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: b.Attachment.NetNS})
	}
	for _, n := range []struct {
		kind    specs.LinuxNamespaceType
		field   string
		mode    string
		private []string // the words for one of its own
		join    moss.Join
	}{
		{specs.UTSNamespace, "UTSMode", h.UTSMode, []string{""}, moss.Join{}},
		{specs.PIDNamespace, "PidMode", h.PidMode, []string{"", "private"}, b.Processes},
		{specs.IPCNamespace, "IpcMode", h.IpcMode, []string{"", "private", "shareable", "none"}, b.IPC},
		{specs.CgroupNamespace, "CgroupnsMode", h.CgroupNS, []string{"", "private"}, moss.Join{}},
	} {
		switch {
		case n.join.PID != 0:
			out = append(out, specs.LinuxNamespace{Type: n.kind, Path: fmt.Sprintf("/proc/%d/ns/%s", n.join.PID, n.kind)})
		case slices.Contains(n.private, n.mode):
			out = append(out, specs.LinuxNamespace{Type: n.kind})
		case n.mode != "host":
			return nil, moss.Errorf(moss.NotImplemented, "%s %q is not supported; use the default or host", n.field, n.mode)
		}
	}
	return out, nil
}

func mounts(b moss.Bundle, env Environment) ([]specs.Mount, string, error) {
	user, propagation, err := userMounts(b.Container.Mounts)
	if err != nil {
		return nil, "", err
	}
	taken := func(m specs.Mount) bool {
		return slices.ContainsFunc(user, func(u specs.Mount) bool { return u.Destination == m.Destination })
	}
	all := slices.DeleteFunc(systemMounts(b, env), taken)
	all = append(all, deviceMounts(b.Container.Host)...)
	ours := fileMounts(b)
	if slices.Contains(b.Container.Host.LabelOpts, moss.LabelNested) && b.Container.SELinux.Process != "" {
		all = append(all, hostMount(selinuxfs, "bind", "nosuid", "noexec", "rprivate"))
	}
	if hasInit(b.Container.Host) {
		ours = append(ours, specs.Mount{Destination: initPath, Type: "bind", Source: env.Init, Options: []string{"bind", "ro", "nosuid", "nodev", "rprivate"}})
	}
	// A mount over all of /etc does not hide them, as with docker.
	above := slices.Concat(ours, user)
	slices.SortStableFunc(above, func(a, b specs.Mount) int { return cmp.Compare(depth(a.Destination), depth(b.Destination)) })
	return append(all, above...), propagation, nil
}

// hiddenPaths are the masked and the read-only paths; nil in the configuration
// means docker's.
func hiddenPaths(h moss.HostConfig) (masked, readonly []string) {
	if h.Privileged {
		return h.MaskedPaths, h.ReadonlyPaths
	}
	masked, readonly = maskedPaths, readonlyPaths
	if h.MaskedPaths != nil {
		masked = h.MaskedPaths
	}
	if h.ReadonlyPaths != nil {
		readonly = h.ReadonlyPaths
	}
	return masked, readonly
}
