package api

import (
	"net/http"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// route is one row of the table. The path has at most one variable, written
// {id} or {name}; {name} may contain slashes, as names of images
// and of links do.
type route struct {
	method string
	path   string
	min    version // the first API version that has it
	handle handler
}

const (
	get  = http.MethodGet
	head = http.MethodHead
	post = http.MethodPost
	put  = http.MethodPut
	del  = http.MethodDelete
)

// routes is the table. The first row that fits wins, so a fixed path stands
// before a variable one that it would fit.
func routes() []route {
	v := v1
	all := v1(24)
	return []route{
		{get, "/_ping", all, (*Server).ping},
		{head, "/_ping", all, (*Server).ping},
		{get, "/version", all, (*Server).getVersion},
		{get, "/info", all, (*Server).info},
		{get, "/events", all, (*Server).events},
		{get, "/system/df", v(25), (*Server).diskUsage},
		{post, "/auth", all, (*Server).login},
		{get, "/debug/{name}", all, (*Server).debug},
		{post, "/debug/{name}", all, (*Server).debug},

		{get, "/containers/json", all, (*Server).listContainers},
		{post, "/containers/create", all, (*Server).createContainer},
		{post, "/containers/prune", v(25), (*Server).pruneContainers},
		{get, "/containers/{name}/json", all, (*Server).inspectContainer},
		{post, "/containers/{id}/start", all, (*Server).startContainer},
		{post, "/containers/{id}/stop", all, (*Server).stopContainer},
		{post, "/containers/{id}/restart", all, (*Server).restartContainer},
		{post, "/containers/{id}/kill", all, (*Server).killContainer},
		{post, "/containers/{id}/wait", all, (*Server).waitContainer},
		{get, "/containers/{id}/logs", all, (*Server).containerLogs},
		{post, "/containers/{id}/attach", all, (*Server).attachContainer},
		{get, "/containers/{id}/attach/ws", all, (*Server).attachWebSocket},
		{post, "/containers/{id}/resize", all, (*Server).resizeContainer},
		{post, "/containers/{id}/rename", all, (*Server).renameContainer},
		{post, "/containers/{id}/update", all, (*Server).updateContainer},
		{post, "/containers/{id}/pause", all, (*Server).pauseContainer},
		{post, "/containers/{id}/unpause", all, (*Server).unpauseContainer},
		{get, "/containers/{id}/top", all, (*Server).top},
		{get, "/containers/{id}/stats", all, (*Server).stats},
		{get, "/containers/{id}/changes", all, (*Server).changes},
		{get, "/containers/{id}/export", all, (*Server).exportContainer},
		{head, "/containers/{id}/archive", all, (*Server).statPath},
		{get, "/containers/{id}/archive", all, (*Server).getArchive},
		{put, "/containers/{id}/archive", all, (*Server).putArchive},
		{post, "/containers/{id}/checkpoints", v(25), no("checkpoint containers", "CRIU needs CAP_CHECKPOINT_RESTORE on the machine itself, which a user does not have: stop and start them")},
		{get, "/containers/{id}/checkpoints", v(25), no("checkpoint containers", "CRIU needs CAP_CHECKPOINT_RESTORE on the machine itself, which a user does not have: stop and start them")},
		{del, "/containers/{id}/checkpoints/{name}", v(25), no("checkpoint containers", "CRIU needs CAP_CHECKPOINT_RESTORE on the machine itself, which a user does not have: stop and start them")},
		{post, "/containers/{id}/exec", all, (*Server).createExec},
		{del, "/containers/{name}", all, (*Server).removeContainer},
		{post, "/exec/{id}/start", all, (*Server).startExec},
		{post, "/exec/{id}/resize", all, (*Server).resizeExec},
		{get, "/exec/{id}/json", all, (*Server).inspectExec},
		{post, "/commit", all, (*Server).commit},

		{get, "/images/json", all, (*Server).listImages},
		{get, "/images/search", all, (*Server).searchImages},
		{get, "/images/get", all, (*Server).saveImages},
		{post, "/images/load", all, (*Server).loadImages},
		{post, "/images/create", all, (*Server).createImage},
		{post, "/images/prune", v(25), (*Server).pruneImages},
		{get, "/images/{name}/json", all, (*Server).inspectImage},
		{get, "/images/{name}/history", all, (*Server).imageHistory},
		{get, "/images/{name}/get", all, (*Server).saveImages},
		{get, "/images/{name}/attestations", v(55), (*Server).attestations},
		{post, "/images/{name}/push", all, (*Server).pushImage},
		{post, "/images/{name}/tag", all, (*Server).tagImage},
		{del, "/images/{name}", all, (*Server).removeImage},
		{get, "/distribution/{name}/json", v(30), (*Server).distribution},
		{post, "/build", all, no("build images", "build elsewhere and bring the image in with: docker load")},
		{post, "/build/prune", v(31), (*Server).pruneBuildCache},
		{post, "/build/cancel", v(39), no("build images", "there is no build to cancel")},
		{post, "/session", v(31), no("build images", "build elsewhere and bring the image in with: docker load")},
		{post, "/grpc", v(38), no("build images", "build elsewhere and bring the image in with: docker load")},

		{get, "/networks", all, (*Server).listNetworks},
		{get, "/networks/", all, (*Server).listNetworks},
		{post, "/networks/create", all, (*Server).createNetwork},
		{post, "/networks/prune", v(25), (*Server).pruneNetworks},
		{post, "/networks/{id}/connect", all, (*Server).connectNetwork},
		{post, "/networks/{id}/disconnect", all, (*Server).disconnectNetwork},
		{get, "/networks/{id}", all, (*Server).inspectNetwork},
		{del, "/networks/{id}", all, (*Server).removeNetwork},

		{get, "/volumes", all, (*Server).listVolumes},
		{post, "/volumes/create", all, (*Server).createVolume},
		{post, "/volumes/prune", v(25), (*Server).pruneVolumes},
		{get, "/volumes/{name}", all, (*Server).inspectVolume},
		{put, "/volumes/{name}", v(42), (*Server).updateVolume},
		{del, "/volumes/{name}", all, (*Server).removeVolume},

		{get, "/plugins", v(25), (*Server).listPlugins},
		{get, "/plugins/privileges", v(25), noManagedPlugins},
		{post, "/plugins/pull", v(25), noManagedPlugins},
		{post, "/plugins/create", v(25), noManagedPlugins},
		{get, "/plugins/{name}/json", v(25), (*Server).noPlugin},
		{post, "/plugins/{name}/enable", v(25), noManagedPlugins},
		{post, "/plugins/{name}/disable", v(25), noManagedPlugins},
		{post, "/plugins/{name}/upgrade", v(26), noManagedPlugins},
		{post, "/plugins/{name}/push", v(25), noManagedPlugins},
		{post, "/plugins/{name}/set", v(25), noManagedPlugins},
		{del, "/plugins/{name}", v(25), noManagedPlugins},

		{get, "/swarm", all, noSwarm},
		{post, "/swarm/init", all, no("do swarm", "one user, one engine: run each service as a container")},
		{post, "/swarm/join", all, no("do swarm", "one user, one engine: run each service as a container")},
		{post, "/swarm/leave", all, noSwarm},
		{post, "/swarm/update", all, noSwarm},
		{post, "/swarm/unlock", all, noSwarm},
		{get, "/swarm/unlockkey", all, noSwarm},
		{get, "/services", all, noSwarm},
		{post, "/services/create", all, noSwarm},
		{post, "/services/{id}/update", all, noSwarm},
		{get, "/services/{id}/logs", all, noSwarm},
		{get, "/services/{id}", all, noSwarm},
		{del, "/services/{id}", all, noSwarm},
		{get, "/nodes", all, noSwarm},
		{post, "/nodes/{id}/update", all, noSwarm},
		{get, "/nodes/{id}", all, noSwarm},
		{del, "/nodes/{id}", all, noSwarm},
		{get, "/tasks", all, noSwarm},
		{get, "/tasks/{id}/logs", all, noSwarm},
		{get, "/tasks/{id}", all, noSwarm},
		{get, "/secrets", v(25), (*Server).listSecrets},
		{post, "/secrets/create", v(25), (*Server).createSecret},
		{post, "/secrets/{id}/update", v(25), (*Server).updateSecret},
		{get, "/secrets/{id}", v(25), (*Server).inspectSecret},
		{del, "/secrets/{id}", v(25), (*Server).removeSecret},
		{get, "/configs", v(30), (*Server).listConfigs},
		{post, "/configs/create", v(30), (*Server).createConfig},
		{post, "/configs/{id}/update", v(30), (*Server).updateConfig},
		{get, "/configs/{id}", v(30), (*Server).inspectConfig},
		{del, "/configs/{id}", v(30), (*Server).removeConfig},
	}
}

// no is the handler of what moss does not do yet: what, and the way out.
func no(what, instead string) handler {
	return func(*Server, *response, *request) error {
		return moss.Errorf(moss.NotImplemented, "moss does not %s yet: %s", what, instead)
	}
}

// noManagedPlugins says what takes the place of plugins that docker installs.
func noManagedPlugins(*Server, *response, *request) error {
	return moss.Errorf(moss.NotImplemented, "moss does not install plugins: docker runs those as root. Run the plugin yourself, as a service or a container, with its socket NAME.sock in $XDG_RUNTIME_DIR/docker/plugins, or with NAME.spec in ~/.config/docker/plugins that has its address: moss finds it by its name")
}

// noSwarm answers as docker does outside a swarm, which clients expect.
func noSwarm(*Server, *response, *request) error {
	return moss.Errorf(moss.Unavailable, "This node is not a swarm manager. moss is the engine of one user and does not do swarm: run each service as a container.")
}

// find returns the row for a request and the variable part of its path.
func find(table []route, method, path string) (*route, string, bool) {
	for i := range table {
		if table[i].method != method {
			continue
		}
		if name, ok := match(table[i].path, path); ok {
			return &table[i], name, true
		}
	}
	return nil, "", false
}

// match fits a path to a pattern and returns the first variable's value.
func match(pattern, path string) (string, bool) {
	before, rest, variable := strings.Cut(pattern, "{")
	if !variable {
		return "", pattern == path
	}
	word, after, _ := strings.Cut(rest, "}")
	tail, ok := strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	if further, _, second := strings.Cut(after, "{"); second { // only checkpoints: {id}/checkpoints/{name}
		name, _, found := strings.Cut(tail, further)
		return name, found && name != ""
	}
	name, ok := strings.CutSuffix(tail, after)
	if !ok || name == "" {
		return "", false
	}
	if word != "name" && strings.Contains(strings.TrimPrefix(name, "/"), "/") {
		return "", false
	}
	return name, true
}
