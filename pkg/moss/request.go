package moss

import "time"

// CreateRequest is a container to be made. Config is as the client sent it:
// the engine merges the image's.
type CreateRequest struct {
	Name      string // without a slash; "" asks for a generated one
	Config    ContainerConfig
	Host      HostConfig
	Endpoints map[string]Endpoint // by network name or id; nil asks for the network mode's alone
	Platform  string              // os/arch[/variant]; "" means any
	// EntrypointSet says that the client gave an entrypoint, even an empty one that takes the image's away.
	EntrypointSet bool
}

// StopOptions say how to stop a container.
type StopOptions struct {
	Signal  string         // name or number; "" means the container's own
	Timeout *time.Duration // nil means the container's own; negative waits for ever
}

// WaitCondition is what Wait waits for, in docker's words.
type WaitCondition string

// The wait conditions.
const (
	WaitNotRunning WaitCondition = "not-running"
	WaitNextExit   WaitCondition = "next-exit"
	WaitRemoved    WaitCondition = "removed"
)

// ContainerFilter chooses containers for a list. An empty list in a field means any.
type ContainerFilter struct {
	All       bool     // also those that are not running
	Limit     int      // the newest n, of any state; 0 means all
	IDs       []string // prefixes
	Names     []string // regular expressions, as docker has it
	Labels    []string // key or key=value; all must hold
	States    []State
	ExitCodes []int
	Health    []HealthStatus
	Ancestors []string // image names or ids
	Before    string   // container created before this one
	Since     string
	Networks  []string // network names or ids
	Publish   []string // port[/proto] published
	Expose    []string
	Volumes   []string // mount source or target
}

// PruneFilter chooses containers for a prune. The zero value chooses all that do not run.
type PruneFilter struct {
	Labels   []string // key or key=value; all must hold
	NotLabel []string // none may hold
	Until    time.Time
}

// ContainersPruned is what a prune of containers did.
type ContainersPruned struct {
	Removed   []ContainerID
	Reclaimed int64 // bytes
}

// ContainerUpdate changes a container. What is zero in Resources, and what is nil, stays as it is.
type ContainerUpdate struct {
	Resources     Resources
	PidsLimit     *int64 // in place of that in Resources
	RestartPolicy *RestartPolicy
}
