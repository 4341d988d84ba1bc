package api

import (
	"path"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// devices carries over the devices, and refuses what only a device controller
// or a driver could do.
func (d *createDecoder) devices() error {
	in, out := &d.in.HostConfig.Resources, &d.out.Host
	if len(in.DeviceCgroupRules) > 0 {
		return moss.Errorf(moss.NotImplemented,
			"--device-cgroup-rule: a user has no device controller, and what he may open is decided by the node's permissions alone: leave it out")
	}
	if len(in.DeviceRequests) > 0 {
		r := in.DeviceRequests[0]
		if r.Driver == "cdi" {
			return moss.Errorf(moss.NotImplemented, "CDI devices (%s): moss reads no CDI specifications: name the nodes with --device", strings.Join(r.DeviceIDs, ", "))
		}
		return moss.Errorf(moss.NotImplemented,
			"could not select device driver %q with capabilities: %v: moss has no device drivers: name the nodes with --device, and bind the libraries with -v", r.Driver, r.Capabilities)
	}
	for _, m := range in.Devices {
		dev := moss.Device{Host: m.PathOnHost, Container: m.PathInContainer, Permissions: m.CgroupPermissions}
		if dev.Container == "" {
			dev.Container = dev.Host
		}
		if dev.Permissions == "" {
			dev.Permissions = "rwm"
		}
		if !path.IsAbs(dev.Host) {
			return invalid("error gathering device information while adding custom device %q: not a device node", dev.Host)
		}
		if !path.IsAbs(dev.Container) {
			return invalid("invalid device path in the container: %q is not an absolute path", dev.Container)
		}
		if strings.Trim(dev.Permissions, "rwm") != "" {
			return invalid("invalid device mode: %s", dev.Permissions)
		}
		if !strings.Contains(dev.Permissions, "r") || !strings.Contains(dev.Permissions, "w") {
			return moss.Errorf(moss.NotImplemented,
				"device permissions %q of %s: a user has no device controller that could take reading or writing away: use rw or rwm", dev.Permissions, dev.Host)
		}
		dev.Host, dev.Container = path.Clean(dev.Host), path.Clean(dev.Container)
		out.Devices = append(out.Devices, dev)
	}
	return nil
}

// cgroupParent is a slice of the user's manager, which is what docker's systemd
// cgroup driver takes too.
func (d *createDecoder) cgroupParent() error {
	parent := d.in.HostConfig.CgroupParent
	if parent == "" {
		return nil
	}
	if !moss.IsSlice(parent) {
		return invalid("cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\": %q is none; it is a slice of the user's own manager", parent)
	}
	d.out.Host.CgroupParent = parent
	return nil
}

// maxHostname is __NEW_UTS_LEN of uts_namespaces(7).
const maxHostname = 64

// conflicts refuses names that no container can have and, in docker's words, what a namespace that is shared decides.
func (d *createDecoder) conflicts() error {
	in := d.in.HostConfig
	switch {
	case len(d.in.Hostname) > maxHostname:
		return invalid("invalid hostname: it is %d bytes long, and the kernel takes %d", len(d.in.Hostname), maxHostname)
	case len(d.in.Domainname) > maxHostname:
		return invalid("invalid domainname: it is %d bytes long, and the kernel takes %d", len(d.in.Domainname), maxHostname)
	case in.UTSMode.IsHost() && d.in.Hostname != "":
		return invalid("conflicting options: hostname and the UTS mode")
	case in.UTSMode.IsHost() && d.in.Domainname != "": // docker's container does not start
		return invalid("conflicting options: domainname and the UTS mode")
	case (in.NetworkMode.IsHost() || in.NetworkMode.IsContainer()) && d.in.MacAddress != "":
		return invalid("conflicting options: mac-address and the network mode")
	}
	if in.NetworkMode.IsContainer() {
		return d.joining()
	}
	return nil
}

// joining refuses what the other container's network decides.
func (d *createDecoder) joining() error {
	in := d.in.HostConfig
	switch {
	case in.NetworkMode.ConnectedContainer() == "":
		return invalid("invalid container format container:<name|id>")
	case d.in.Hostname != "":
		return invalid("conflicting options: hostname and the network mode")
	case len(in.Links) > 0:
		return invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(in.DNS) > 0:
		return invalid("conflicting options: dns and the network mode")
	case len(in.ExtraHosts) > 0:
		return invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(in.PortBindings) > 0 || in.PublishAllPorts:
		return invalid("conflicting options: port publishing and the container type network mode")
	case len(d.in.ExposedPorts) > 0:
		return invalid("conflicting options: port exposing and the container type network mode")
	}
	if len(in.DNSSearch) > 0 || len(in.DNSOptions) > 0 { // docker says nothing
		d.warnings = append(d.warnings, "DNS options and search domains are discarded: the container whose network this one joins has them")
	}
	return nil
}

// unbridged refuses what is asked for an end point that there will not be.
func unbridged(mode moss.NetworkMode, end moss.Endpoint) error {
	switch {
	case end.MAC != "" && mode != moss.NetworkNone:
		return invalid("conflicting options: mac-address and the network mode")
	case end.Address.IsValid() || end.Address6.IsValid() || len(end.LinkLocal) > 0:
		return invalid("invalid endpoint settings:\nuser specified IP address is supported on user defined networks only")
	case len(end.Aliases) > 0:
		return invalid("invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks")
	}
	return nil
}
