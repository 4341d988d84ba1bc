package api

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/moss-containers/moss/pkg/moss"
)

// encodeSummary is a container as docker ps gets it. Versions are told apart as in form.
func encodeSummary(c *moss.Container, v version, now time.Time) container.Summary {
	s := container.Summary{
		ID: string(c.ID), Names: names(c), Image: c.ImageRef, ImageID: string(c.Image),
		Command: commandLine(c.Path, c.Args), Created: c.Created.Unix(),
		Ports: encodePortList(c), Labels: nonNil(c.Config.Labels),
		State: container.ContainerState(c.State), Status: statusText(c, now),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: encodeEndpoints(c)},
		Mounts:          encodeMounts(c.Mounts),
	}
	s.HostConfig.NetworkMode = string(c.Host.NetworkMode)
	if !v.before(v1(46)) {
		s.HostConfig.Annotations = c.Host.Annotations
	}
	if !v.before(v1(52)) {
		s.Health = &container.HealthSummary{Status: container.HealthStatus(c.Health())}
		if h := c.Run.Health; h != nil {
			s.Health.FailingStreak = h.FailingStreak
		}
	}
	return s
}

// names are a container's own and, as docker has it, those by which others link to it.
func names(c *moss.Container) []string {
	out := []string{"/" + c.Name}
	for _, n := range c.LinkedAs {
		out = append(out, "/"+n)
	}
	return out
}

func commandLine(path string, args []string) string {
	out := []string{path}
	for _, a := range args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

// statusText is docker's, such as "Up 3 seconds".
func statusText(c *moss.Container, now time.Time) string {
	ago := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch c.State {
	case moss.StateRunning:
		return "Up " + ago(c.Run.StartedAt) + healthText(c)
	case moss.StatePaused:
		return "Up " + ago(c.Run.StartedAt) + " (Paused)"
	case moss.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.Run.ExitCode, ago(c.Run.FinishedAt))
	case moss.StateRemoving:
		return "Removal In Progress"
	case moss.StateDead:
		return "Dead"
	case moss.StateCreated:
		return "Created"
	case moss.StateExited:
		if c.Run.FinishedAt.IsZero() {
			return "Created"
		}
		return fmt.Sprintf("Exited (%d) %s ago", c.Run.ExitCode, ago(c.Run.FinishedAt))
	}
	return string(c.State)
}

// healthText is what docker ps says of a running container's health.
func healthText(c *moss.Container) string {
	switch h := c.Health(); h {
	case moss.HealthNone:
		return ""
	case moss.HealthStarting:
		return " (health: starting)"
	default:
		return " (" + string(h) + ")"
	}
}

// published are the bindings that are open, by the container's port.
func published(c *moss.Container) map[moss.Port][]moss.PortBinding {
	out := map[moss.Port][]moss.PortBinding{}
	if c.Host.Activated() { // they are listened at all the time
		for _, b := range c.Host.PortBindings {
			out[b.Port] = append(out[b.Port], b)
		}
		return out
	}
	if c.Network == nil || !c.State.Alive() {
		return out
	}
	for _, p := range c.Network.Published {
		out[p.Binding.Port] = append(out[p.Binding.Port], p.Binding)
	}
	return out
}

// shownAddr is the address a port is published at, as docker shows it.
func shownAddr(a netip.Addr) netip.Addr {
	if !a.IsValid() {
		return netip.IPv4Unspecified()
	}
	return a
}

func encodePortList(c *moss.Container) []container.PortSummary {
	out := []container.PortSummary{}
	open := published(c)
	if c.State.Alive() {
		for _, p := range c.Config.ExposedPorts {
			if len(open[p]) == 0 {
				out = append(out, container.PortSummary{PrivatePort: p.Number, Type: string(p.Proto)})
			}
		}
	}
	for p, bindings := range open {
		for _, b := range bindings {
			out = append(out, container.PortSummary{IP: shownAddr(b.HostIP), PrivatePort: p.Number, PublicPort: b.HostPort, Type: string(p.Proto)})
		}
	}
	slices.SortFunc(out, func(a, b container.PortSummary) int {
		if n := comparePorts(a.PrivatePort, a.Type, b.PrivatePort, b.Type); n != 0 {
			return n
		}
		if a.PublicPort != b.PublicPort {
			return int(a.PublicPort) - int(b.PublicPort)
		}
		return a.IP.Compare(b.IP)
	})
	return out
}

func encodePortMap(c *moss.Container) network.PortMap {
	out := network.PortMap{}
	if !c.State.Alive() && !c.Host.Activated() {
		return out
	}
	for _, p := range c.Config.ExposedPorts {
		if port, ok := network.PortFrom(p.Number, network.IPProtocol(p.Proto)); ok {
			out[port] = nil
		}
	}
	for p, bindings := range published(c) {
		port, ok := network.PortFrom(p.Number, network.IPProtocol(p.Proto))
		if !ok {
			continue
		}
		for _, b := range bindings {
			out[port] = append(out[port], network.PortBinding{HostIP: shownAddr(b.HostIP), HostPort: strconv.Itoa(int(b.HostPort))})
		}
	}
	return out
}

func encodeEndpoints(c *moss.Container) map[string]*network.EndpointSettings {
	if _, joined := c.Host.NetworkMode.Joins(); joined {
		return map[string]*network.EndpointSettings{} // they are the other's
	}
	out := map[string]*network.EndpointSettings{}
	if c.Host.NetworkMode == moss.NetworkHost || c.Host.NetworkMode == moss.NetworkNone {
		out[string(c.Host.NetworkMode)] = &network.EndpointSettings{}
	} else {
		for name, want := range c.WantedEndpoints() {
			out[name] = encodeWanted(c, name, want)
		}
	}
	if c.Network == nil || !c.State.Alive() {
		return out
	}
	for _, i := range c.Network.Interfaces() {
		name := i.Name
		if name == "" { // made by an older engine
			name = string(c.Network.Mode)
		}
		e := out[name]
		if e == nil {
			e = &network.EndpointSettings{}
			out[name] = e
		}
		e.NetworkID, e.EndpointID = string(i.Network), i.Endpoint
		e.Gateway, e.IPAddress = i.Gateway, i.Address.Addr()
		e.IPv6Gateway, e.GlobalIPv6Address = i.Gateway6, i.Address6.Addr()
		if i.Address.IsValid() {
			e.IPPrefixLen = i.Address.Bits()
		}
		if i.Address6.IsValid() {
			e.GlobalIPv6PrefixLen = i.Address6.Bits()
		}
		if mac, err := net.ParseMAC(i.MAC); err == nil {
			e.MacAddress = network.HardwareAddr(mac)
		}
	}
	return out
}

// encodeWanted is an end point as it was asked for.
func encodeWanted(c *moss.Container, name string, want moss.Endpoint) *network.EndpointSettings {
	e := &network.EndpointSettings{Aliases: want.Aliases, Links: want.Links, DriverOpts: want.DriverOpts, GwPriority: want.GwPriority}
	if want.Address.IsValid() || want.Address6.IsValid() || len(want.LinkLocal) > 0 {
		e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: want.Address, IPv6Address: want.Address6, LinkLocalIPs: want.LinkLocal}
	}
	if mac, err := net.ParseMAC(want.MAC); err == nil {
		e.MacAddress = network.HardwareAddr(mac)
	}
	if name != string(moss.NetworkBridge) {
		for _, n := range append([]string{c.Name}, append(slices.Clone(want.Aliases), c.ID.Short())...) {
			if !slices.Contains(e.DNSNames, n) {
				e.DNSNames = append(e.DNSNames, n)
			}
		}
	}
	return e
}

func encodeMounts(in []moss.MountPoint) []container.MountPoint {
	out := []container.MountPoint{}
	for _, m := range in {
		out = append(out, container.MountPoint{
			Type: mount.Type(m.Type), Source: m.Source, Destination: m.Target,
			Mode: m.Mode, RW: !m.ReadOnly, Propagation: mount.Propagation(m.Propagation), Name: m.Name, Driver: m.Driver,
		})
	}
	return out
}

// containerInspect is docker's answer; the outer field stands for the inner one of its name.
type containerInspect struct {
	container.InspectResponse
	NetworkSettings any
}

// encodeInspect is a container as docker inspect gets it; driver is the
// storage driver's name.
func encodeInspect(c *moss.Container, v version, driver string) containerInspect {
	r := container.InspectResponse{
		ID: string(c.ID), Created: stamp(c.Created), Path: c.Path, Args: nonNilList(c.Args),
		State: encodeState(c), Image: string(c.Image),
		ResolvConfPath: filepath.Join(c.Dir, "resolv.conf"), HostnamePath: filepath.Join(c.Dir, "hostname"), HostsPath: filepath.Join(c.Dir, "hosts"),
		LogPath: c.LogPath, Name: "/" + c.Name, RestartCount: c.Run.Restarts,
		Driver: driver, Platform: "linux", ProcessLabel: c.SELinux.Process, MountLabel: c.SELinux.Mount,
		HostConfig: encodeHost(c), GraphDriver: &storage.DriverData{Name: driver, Data: map[string]string{}},
		Mounts: encodeMounts(c.Mounts), Config: encodeConfig(c.Config), ExecIDs: encodeExecIDs(c.Execs),
	}
	r.NetworkSettings = &container.NetworkSettings{Ports: encodePortMap(c), Networks: encodeEndpoints(c)}
	if c.Network != nil && c.State.Alive() {
		r.NetworkSettings.SandboxID, r.NetworkSettings.SandboxKey = c.Network.Sandbox, c.Network.NetNS
	}
	out := containerInspect{InspectResponse: r, NetworkSettings: r.NetworkSettings}
	if v.before(v1(52)) {
		out.NetworkSettings = oldNetworkSettings(r.NetworkSettings, c.Host.NetworkMode)
	}
	return out
}

// networkSettings51 is NetworkSettings as it was until API 1.51, with the
// default network's end point repeated at the top.
type networkSettings51 struct {
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	*container.NetworkSettings
}

func oldNetworkSettings(n *container.NetworkSettings, mode moss.NetworkMode) networkSettings51 {
	out := networkSettings51{NetworkSettings: n}
	e := n.Networks[string(moss.NetworkBridge)]
	if e == nil || mode != moss.NetworkBridge {
		return out
	}
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	out.EndpointID, out.MacAddress = e.EndpointID, e.MacAddress.String()
	out.Gateway, out.IPAddress, out.IPPrefixLen = text(e.Gateway), text(e.IPAddress), e.IPPrefixLen
	out.IPv6Gateway, out.GlobalIPv6Address, out.GlobalIPv6PrefixLen = text(e.IPv6Gateway), text(e.GlobalIPv6Address), e.GlobalIPv6PrefixLen
	return out
}

func encodeState(c *moss.Container) *container.State {
	s := &container.State{
		Status: container.ContainerState(c.State), Paused: c.State == moss.StatePaused,
		Restarting: c.State == moss.StateRestarting, Dead: c.State == moss.StateDead,
		OOMKilled: c.Run.OOMKilled, ExitCode: c.Run.ExitCode, Error: c.Run.Error,
		StartedAt: stamp(c.Run.StartedAt), FinishedAt: stamp(c.Run.FinishedAt),
	}
	s.Running = c.State.Alive() || s.Restarting
	if c.State.Alive() { // the record has it before the start is done
		s.Pid = c.Run.PID
	}
	if h := c.Run.Health; h != nil {
		s.Health = &container.Health{Status: container.HealthStatus(h.Status), FailingStreak: h.FailingStreak, Log: []*container.HealthcheckResult{}}
		for _, p := range h.Log {
			s.Health.Log = append(s.Health.Log, &container.HealthcheckResult{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: p.Output})
		}
	}
	return s
}

// encodeExecIDs leaves null for none, as docker does.
func encodeExecIDs(in []moss.ExecID) []string {
	var out []string
	for _, id := range in {
		out = append(out, string(id))
	}
	return out
}

// stamp is a time as docker writes it; the zero time is the year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func encodeConfig(c moss.ContainerConfig) *container.Config {
	out := &container.Config{
		Hostname: c.Hostname, Domainname: c.Domainname, User: c.User,
		AttachStdin: c.AttachStdin, AttachStdout: c.AttachStdout, AttachStderr: c.AttachStderr,
		Tty: c.TTY, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce,
		Env: nonNilList(c.Env), Cmd: c.Cmd, Entrypoint: c.Entrypoint, Image: c.Image, WorkingDir: c.WorkingDir,
		OnBuild: c.OnBuild, Labels: nonNil(c.Labels), StopSignal: c.StopSignal, StopTimeout: c.StopTimeout, Shell: c.Shell,
		Healthcheck: encodeHealth(c.Healthcheck), NetworkDisabled: c.NetworkDisabled,
	}
	if len(c.Volumes) > 0 {
		out.Volumes = map[string]struct{}{}
		for _, v := range c.Volumes {
			out.Volumes[v] = struct{}{}
		}
	}
	for _, p := range c.ExposedPorts {
		if port, ok := network.PortFrom(p.Number, network.IPProtocol(p.Proto)); ok {
			if out.ExposedPorts == nil {
				out.ExposedPorts = network.PortSet{}
			}
			out.ExposedPorts[port] = struct{}{}
		}
	}
	return out
}

func encodeHealth(h *moss.Healthcheck) *container.HealthConfig {
	if h == nil {
		return nil
	}
	return &container.HealthConfig{
		Test: h.Test, Interval: h.Interval, Timeout: h.Timeout,
		StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
}

func nonNil[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}

func nonNilList[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
