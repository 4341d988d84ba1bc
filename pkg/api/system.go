package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"github.com/moss-containers/moss/pkg/moss"
)

func (s *Server) ping(w *response, r *request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", string(swarm.LocalNodeStateInactive))
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}

func (s *Server) getVersion(w *response, r *request) error {
	info, err := s.o.System.Info(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, encodeVersion(s.o, info.Host))
}

func encodeVersion(o Options, h moss.HostInfo) system.VersionResponse {
	engine := system.ComponentVersion{Name: "Engine", Version: o.Version, Details: map[string]string{
		"ApiVersion": MaxVersion, "MinAPIVersion": MinVersion, "Arch": runtime.GOARCH, "Os": runtime.GOOS,
		"BuildTime": o.BuildTime, "GitCommit": o.GitCommit, "GoVersion": runtime.Version(),
		"KernelVersion": h.KernelVersion, "Experimental": "false",
	}}
	v := system.VersionResponse{
		Platform: system.PlatformInfo{Name: "moss"}, Version: o.Version,
		APIVersion: MaxVersion, MinAPIVersion: MinVersion, Os: runtime.GOOS, Arch: runtime.GOARCH,
		GitCommit: o.GitCommit, GoVersion: runtime.Version(), KernelVersion: h.KernelVersion, BuildTime: o.BuildTime,
		Components: []system.ComponentVersion{engine},
	}
	if h.SystemdVersion != "" {
		v.Components = append(v.Components, system.ComponentVersion{Name: "systemd", Version: h.SystemdVersion})
	}
	return v
}

func (s *Server) info(w *response, r *request) error {
	info, err := s.o.System.Info(r.Context())
	if err != nil {
		return err
	}
	out := encodeInfo(s.o, info, s.now())
	out.Plugins = s.pluginsInfo(r.Context())
	if r.version.before(v1(49)) {
		out.FirewallBackend = nil
	}
	out.Debug = s.log.Enabled(r.Context(), slog.LevelDebug)
	out.NEventsListener = int(s.listeners.Load())
	if s.o.OpenFiles != nil {
		out.NFd = s.o.OpenFiles()
	}
	return writeJSON(w, http.StatusOK, out)
}

// pluginsWait is how long info waits for plugins that do not say what they are.
const pluginsWait = time.Second

// pluginsInfo are the drivers that can be had, and who authorizes.
func (s *Server) pluginsInfo(ctx context.Context) system.PluginsInfo {
	out := system.PluginsInfo{
		Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Authorization: s.authorizing(),
		Log: []string{"fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"},
	}
	if s.o.Plugins == nil {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, pluginsWait)
	defer cancel()
	volumes, _ := s.o.Plugins.Having(ctx, moss.VolumePlugin)
	logs, _ := s.o.Plugins.Having(ctx, moss.LogPlugin)
	out.Volume, out.Log = append(out.Volume, volumes...), append(out.Log, logs...)
	return out
}

func encodeInfo(o Options, in moss.Info, now time.Time) system.Info {
	has := func(controller string) bool { return slices.Contains(in.Host.Controllers, controller) }
	out := system.Info{
		ID: in.ID, Images: in.Images,
		ContainersRunning: in.Containers[moss.StateRunning] + in.Containers[moss.StateRestarting],
		ContainersPaused:  in.Containers[moss.StatePaused],
		Driver:            in.Storage.Driver, DriverStatus: in.Storage.Status,
		MemoryLimit: has("memory"), SwapLimit: has("memory"), CPUCfsPeriod: has("cpu"), CPUCfsQuota: has("cpu"),
		CPUShares: has("cpu"), CPUSet: has("cpuset"), PidsLimit: has("pids"), IPv4Forwarding: true,
		NGoroutines: runtime.NumGoroutine(), SystemTime: now.Format(time.RFC3339Nano),
		LoggingDriver: in.LogDriver, CgroupDriver: cgroupDriver(in.Host), CgroupVersion: "2",
		KernelVersion: in.Host.KernelVersion, OperatingSystem: in.Host.OperatingSystem, OSVersion: in.Host.OSVersion,
		OSType: "linux", Architecture: in.Host.Architecture, NCPU: in.Host.CPUs, MemTotal: in.Host.Memory,
		IndexServerAddress: indexServer, RegistryConfig: encodeRegistries(in.Registry),
		DockerRootDir: in.DataRoot, Name: in.Host.Hostname, Labels: nonNilList(in.Labels), ServerVersion: o.Version,
		Runtimes: map[string]system.RuntimeWithStatus{}, DefaultRuntime: in.Runtime,
		Swarm:           swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		Isolation:       container.IsolationEmpty,
		SecurityOptions: []string{"name=seccomp,profile=" + cmp.Or(in.Seccomp, "builtin"), "name=rootless", "name=cgroupns"},
		CDISpecDirs:     []string{}, Warnings: nonNilList(in.Host.Warnings),
		HTTPProxy: in.Host.HTTPProxy, HTTPSProxy: in.Host.HTTPSProxy, NoProxy: in.Host.NoProxy,
		LiveRestoreEnabled: true, // containers are units: they outlive the engine
	}
	if o.SELinuxEnabled { // without the setting docker does not say so either
		out.SecurityOptions = append(out.SecurityOptions, "name=selinux")
	}
	for _, p := range in.Host.NetworkPools {
		out.DefaultAddressPools = append(out.DefaultAddressPools, system.NetworkAddressPool(p))
	}
	if in.Host.Filter != "" {
		out.FirewallBackend = &system.FirewallInfo{Driver: in.Host.Filter}
	}
	for _, n := range in.Containers {
		out.Containers += n
	}
	out.ContainersStopped = out.Containers - out.ContainersRunning - out.ContainersPaused
	for name, path := range in.Runtimes {
		out.Runtimes[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: path}}
	}
	if in.Host.NetworkDriver != "" {
		out.DriverStatus = append(slices.Clone(out.DriverStatus), networkStatus(in.Host)...)
	}
	return out
}

// cgroupDriver is docker's word for who makes the containers' cgroups.
func cgroupDriver(h moss.HostInfo) string {
	if h.SystemdVersion == "" {
		return "none"
	}
	return "systemd"
}

// networkStatus tells of the way out; docker's info has no place for it.
func networkStatus(h moss.HostInfo) [][2]string {
	out := [][2]string{{"Network driver", h.NetworkDriver}}
	for _, l := range [][2]string{{"Network driver chosen because", h.NetworkWhy}, {"Better network driver", h.NetworkBetter}} {
		if l[1] != "" {
			out = append(out, l)
		}
	}
	if h.NetworkMTU != 0 {
		out = append(out, [2]string{"Network MTU", strconv.Itoa(h.NetworkMTU)}, [2]string{"IPv6 goes out", strconv.FormatBool(h.NetworkIPv6)})
	}
	return out
}
