package api

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

// host carries over the part of HostConfig that needs little thought.
func (d *createDecoder) host() error {
	in, out := &d.in.HostConfig.HostConfig, &d.out.Host
	size, err := consoleSize(&in.ConsoleSize)
	if err != nil {
		return err
	}
	out.ConsoleSize = size
	err = first(
		d.volumes,
		d.links,
		func() error {
			return refuseIf(in.Cgroup != "", "HostConfig.Cgroup", "each container has a cgroup of its own")
		},
		func() error {
			return refuseIf(len(in.StorageOpt) > 0, "--storage-opt", "the size of a layer is a project quota of the file system, which only the administrator can set: leave it out, or write to a --tmpfs with size=")
		},
		d.restart,
	)
	if err != nil {
		return err
	}
	if in.Isolation != "" && in.Isolation != "default" {
		return invalid("invalid isolation %q: it is for Windows containers", in.Isolation)
	}
	if in.ShmSize < 0 {
		return invalid("SHM size can not be less than 0")
	}
	if in.OomScoreAdj < -1000 || in.OomScoreAdj > 1000 {
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", in.OomScoreAdj)
	}
	if in.Umask != nil && *in.Umask > 0o777 {
		return invalid("invalid Umask %#o: at most 0777", *in.Umask)
	}
	if len(in.GroupAdd) > 1 && slices.Contains(in.GroupAdd, moss.KeepGroups) {
		return invalid("the '--group-add keep-groups' option is not allowed with any other --group-add options")
	}
	for _, h := range in.ExtraHosts {
		h, err := extraHost(h)
		if err != nil {
			return err
		}
		out.ExtraHosts = append(out.ExtraHosts, h)
	}
	out.ContainerIDFile, out.Annotations = in.ContainerIDFile, in.Annotations
	// No driver means the engine's default.
	out.LogConfig = moss.LogConfig{Driver: in.LogConfig.Type, Options: in.LogConfig.Config}
	out.AutoRemove, out.PublishAll, out.ReadonlyRootfs = in.AutoRemove, in.PublishAllPorts, in.ReadonlyRootfs
	for _, s := range in.DNSSearch {
		s, err := moss.SearchDomain(s)
		if err != nil {
			return err
		}
		out.DNSSearch = append(out.DNSSearch, s)
	}
	out.GroupAdd, out.DNS, out.DNSOptions = in.GroupAdd, in.DNS, in.DNSOptions
	out.ShmSize, out.Sysctls, out.OomScoreAdj = in.ShmSize, in.Sysctls, in.OomScoreAdj
	out.Runtime, out.Umask, out.Init = in.Runtime, in.Umask, in.Init
	return nil
}

func (d *createDecoder) restart() error {
	in := d.in.HostConfig.RestartPolicy
	if err := container.ValidateRestartPolicy(in); err != nil {
		return invalid("%w", err)
	}
	mode := moss.RestartMode(in.Name)
	if mode == "" {
		mode = moss.RestartNo
	}
	if d.in.HostConfig.AutoRemove && mode != moss.RestartNo {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	d.out.Host.RestartPolicy = moss.RestartPolicy{Mode: mode, MaxRetries: in.MaximumRetryCount}
	if mode != moss.RestartOnFailure {
		d.out.Host.RestartPolicy.MaxRetries = 0
	}
	return nil
}

// extraHost reads name=address or name:address and gives the second; the
// address may be host-gateway, or one in brackets.
func extraHost(h string) (string, error) {
	name, addr, ok := strings.Cut(h, "=")
	if !ok {
		name, addr, ok = strings.Cut(h, ":")
	}
	if !ok || name == "" || strings.ContainsAny(name, " \t\n:") {
		return "", invalid("bad format for add-host: %q", h)
	}
	if addr == "host-gateway" {
		return name + ":" + addr, nil
	}
	inner, bracketed := strings.CutPrefix(addr, "[")
	if bracketed {
		inner = strings.TrimSuffix(inner, "]")
	}
	if _, err := netip.ParseAddr(inner); err != nil {
		return "", invalid("invalid IP address in add-host: %q", addr)
	}
	return name + ":" + inner, nil
}

// namespaces reads the modes of the namespaces other than the network's.
func (d *createDecoder) namespaces() error {
	in, out := &d.in.HostConfig.HostConfig, &d.out.Host
	switch in.CgroupnsMode {
	case "", "private", "host": // without one the engine's default
		out.CgroupNS = string(in.CgroupnsMode)
	default:
		return invalid("invalid cgroup namespace mode: %v", in.CgroupnsMode)
	}
	switch m := in.IpcMode; {
	case m == "" || m == "private" || m == "none" || m == "host" || m == "shareable" || m.IsContainer() && m.Container() != "":
		out.IpcMode = string(m)
	default:
		return invalid("invalid IPC mode: %v", m)
	}
	if in.ShmSize > 0 && (out.IpcMode == "none" || out.IpcMode == "host" || in.IpcMode.IsContainer()) {
		d.warnings = append(d.warnings, "The size of /dev/shm is discarded when using "+out.IpcMode+" IPC mode")
	}
	switch m := in.PidMode; {
	case m == "" || m == "host" || m.IsContainer() && m.Container() != "":
		out.PidMode = string(m)
	default:
		return invalid("invalid PID mode: %v", m)
	}
	if in.UTSMode != "" && in.UTSMode != "host" {
		return invalid("invalid UTS mode: %v", in.UTSMode)
	}
	out.UTSMode = string(in.UTSMode)
	return d.userns()
}
