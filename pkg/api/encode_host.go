package api

import (
	"os"
	"strconv"
	"strings"

	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"github.com/moss-containers/moss/pkg/moss"
)

// defaultShm is the size of /dev/shm where the user names none, in bytes.
const defaultShm = 64 << 20

// encodeHost is HostConfig as it was asked for, defaults filled in.
func encodeHost(c *moss.Container) *container.HostConfig {
	h := c.Host
	out := &container.HostConfig{
		Binds: h.Binds, ContainerIDFile: h.ContainerIDFile,
		LogConfig:   container.LogConfig{Type: h.LogConfig.Driver, Config: nonNil(h.LogConfig.Options)},
		NetworkMode: container.NetworkMode(h.NetworkMode), PortBindings: encodeBindings(h.PortBindings),
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyMode(h.RestartPolicy.Mode), MaximumRetryCount: h.RestartPolicy.MaxRetries},
		AutoRemove:    h.AutoRemove, ConsoleSize: [2]uint{uint(h.ConsoleSize.Rows), uint(h.ConsoleSize.Cols)}, Annotations: h.Annotations,
		CapAdd: h.CapAdd, CapDrop: h.CapDrop, CgroupnsMode: container.CgroupnsMode(h.CgroupNS),
		DNS: nonNilList(h.DNS), DNSOptions: nonNilList(h.DNSOptions), DNSSearch: nonNilList(h.DNSSearch), ExtraHosts: h.ExtraHosts,
		GroupAdd: h.GroupAdd, IpcMode: container.IpcMode(h.IpcMode), OomScoreAdj: h.OomScoreAdj, PidMode: container.PidMode(h.PidMode),
		Privileged: h.Privileged, PublishAllPorts: h.PublishAll, ReadonlyRootfs: h.ReadonlyRootfs, SecurityOpt: h.SecurityOpt,
		UTSMode: container.UTSMode(h.UTSMode), ShmSize: h.ShmSize, Sysctls: h.Sysctls, Runtime: h.Runtime, Umask: h.Umask,
		Resources: encodeResources(h.Resources, h.Ulimits), MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths,
		Init: h.Init, UsernsMode: container.UsernsMode(h.UsernsMode),
	}
	if out.ShmSize == 0 {
		out.ShmSize = defaultShm
	}
	if out.Runtime == "" {
		out.Runtime = "moss-runtime"
	}
	out.CgroupParent = h.CgroupParent
	for _, d := range h.Devices {
		out.Devices = append(out.Devices, container.DeviceMapping{PathOnHost: d.Host, PathInContainer: d.Container, CgroupPermissions: d.Permissions})
	}
	encodeMountSpecs(out, h)
	encodeDeviceLimits(&out.Resources, h.DeviceLimits)
	out.VolumeDriver, out.Links = h.VolumeDriver, c.LinkedTo
	for _, from := range h.VolumesFrom {
		out.VolumesFrom = append(out.VolumesFrom, strings.TrimSuffix(from.Container+":"+from.Mode, ":"))
	}
	return out
}

// encodeMountSpecs gives the mounts back where they came from: binds of -v are
// in Binds already, a tmpfs of --tmpfs goes to Tmpfs, all others to Mounts.
func encodeMountSpecs(out *container.HostConfig, h moss.HostConfig) {
	for i, m := range h.Mounts {
		switch {
		case i < len(h.Binds):
		case m.Type == moss.MountTmpfs && !m.Spec:
			if out.Tmpfs == nil {
				out.Tmpfs = map[string]string{}
			}
			out.Tmpfs[m.Target] = m.TmpfsOptions
		default:
			out.Mounts = append(out.Mounts, encodeMountSpec(m))
		}
	}
}

func encodeMountSpec(m moss.MountPoint) mount.Mount {
	spec := mount.Mount{
		Type: mount.Type(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly,
		Consistency: mount.Consistency(m.Consistency),
	}
	switch m.Type {
	case moss.MountVolume:
		encodeVolumeSpec(&spec, m)
	case moss.MountTmpfs:
		spec.TmpfsOptions = encodeTmpfs(m.TmpfsOptions)
	case moss.MountImage:
		spec.Source = m.Name
		if m.SubPath != "" {
			spec.ImageOptions = &mount.ImageOptions{Subpath: m.SubPath}
		}
	default:
		o := mount.BindOptions{
			NonRecursive: m.NonRecursive, CreateMountpoint: m.CreateSource,
			ReadOnlyNonRecursive: m.ReadOnlyTop, ReadOnlyForceRecursive: m.ReadOnlyAll,
		}
		if m.Propagation != "rprivate" { // the default
			o.Propagation = mount.Propagation(m.Propagation)
		}
		if o != (mount.BindOptions{}) {
			spec.BindOptions = &o
		}
	}
	return spec
}

// encodeTmpfs reads what mountTmpfs has written.
func encodeTmpfs(options string) *mount.TmpfsOptions {
	var out mount.TmpfsOptions
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "size":
			out.SizeBytes, _ = strconv.ParseInt(value, 10, 64)
		case "mode":
			mode, _ := strconv.ParseUint(value, 8, 32)
			out.Mode = os.FileMode(mode)
		case "exec", "noexec":
			out.Options = append(out.Options, []string{key})
		}
	}
	if out.SizeBytes == 0 && out.Mode == 0 && out.Options == nil {
		return nil
	}
	return &out
}

func encodeBindings(in []moss.PortBinding) network.PortMap {
	out := network.PortMap{}
	for _, b := range in {
		port, ok := network.PortFrom(b.Port.Number, network.IPProtocol(b.Port.Proto))
		if !ok {
			continue
		}
		host := ""
		if b.HostPort != 0 {
			host = strconv.Itoa(int(b.HostPort))
		}
		if b.HostPortEnd > b.HostPort {
			host += "-" + strconv.Itoa(int(b.HostPortEnd))
		}
		out[port] = append(out[port], network.PortBinding{HostIP: b.HostIP, HostPort: host})
	}
	return out
}

func encodeResources(r moss.Resources, ulimits []moss.Ulimit) container.Resources {
	out := container.Resources{
		CPUShares: r.CPUShares, Memory: r.Memory, NanoCPUs: r.NanoCPUs, BlkioWeight: r.BlkioWeight,
		CPUPeriod: r.CPUPeriod, CPUQuota: r.CPUQuota, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems,
		MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap,
	}
	if r.PidsLimit != 0 {
		out.PidsLimit = &r.PidsLimit
	}
	for _, u := range ulimits {
		out.Ulimits = append(out.Ulimits, &units.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
	return out
}
