package runtime

import (
	"github.com/moss-containers/moss/pkg/moss"
)

// initPath is where docker has a container's init. moss-runtime knows by this
// name in argv[0] that it is to be one.
const initPath = "/sbin/docker-init"

// hasInit says whether a container gets an init of moss's. In another's pid
// namespace it would not be the first process, which is what it is for.
func hasInit(h moss.HostConfig) bool {
	return h.Init != nil && *h.Init && (h.PidMode == "" || h.PidMode == "private")
}

// command is what the container's process runs.
func command(c moss.Container) []string {
	args := append([]string{c.Path}, c.Args...)
	if hasInit(c.Host) {
		return append([]string{initPath, "--"}, args...)
	}
	return args
}
