package runtime

import (
	"fmt"
	"maps"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// ipcSysctls belong to the ipc namespace (ipc_namespaces(7)).
var ipcSysctls = map[string]bool{
	"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true,
	"kernel.shmall": true, "kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
}

// sysctls are the container's kernel parameters: the user's, where they belong
// to a namespace of the container's own, on top of docker's defaults.
func sysctls(h moss.HostConfig, env Environment) (map[string]string, error) {
	out := map[string]string{}
	if _, joined := h.NetworkMode.Joins(); !joined && h.NetworkMode != moss.NetworkHost {
		// Docker's defaults: no port is privileged in the container's own
		// network, and ping needs no capability. The group range must be mapped.
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		if env.IDs > 1 {
			out["net.ipv4.ping_group_range"] = fmt.Sprintf("0 %d", env.IDs-1)
		}
	}
	for name := range h.Sysctls {
		if why := sysctlRefused(strings.ReplaceAll(name, "/", "."), h); why != "" {
			return nil, moss.Errorf(moss.Invalid, "invalid sysctl %q: %s", name, why)
		}
	}
	maps.Copy(out, h.Sysctls)
	return out, nil
}

// inOwnUserns takes away what a container in a user namespace of its own may not
// set: the network is the engine's, which sets it (pkg/network).
func inOwnUserns(all map[string]string) map[string]string {
	maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasPrefix(strings.ReplaceAll(name, "/", "."), "net.") })
	return all
}

func sysctlRefused(name string, h moss.HostConfig) string {
	switch {
	case strings.HasPrefix(name, "net."):
		if h.NetworkMode == moss.NetworkHost {
			return "it belongs to the host's network, which this container shares; use another network mode"
		}
		return ""
	case ipcSysctls[name] || strings.HasPrefix(name, "fs.mqueue."):
		if h.IpcMode == "host" {
			return "it belongs to the host's ipc namespace, which this container shares; leave out --ipc=host"
		}
		return ""
	case name == "kernel.hostname":
		return "use --hostname"
	case name == "kernel.domainname":
		return "use --domainname"
	}
	return "it is not of a namespace but of the whole machine, and a user cannot change it; set it on the host"
}
