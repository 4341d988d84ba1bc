package moss

import (
	"net/netip"
	"time"
)

// State is where a container is in its life; the names are docker's. Only
// pkg/lifecycle's table decides how one follows another.
type State string

// The states of a container.
const (
	StateCreated    State = "created"
	StateRunning    State = "running"
	StatePaused     State = "paused"
	StateRestarting State = "restarting"
	StateRemoving   State = "removing"
	StateExited     State = "exited"
	StateDead       State = "dead"
)

// Alive says whether the container has a process.
func (s State) Alive() bool { return s == StateRunning || s == StatePaused }

// Intent is what the engine was about to do when it last wrote the record; a
// restarted engine finishes it.
type Intent string

// The intents of a record.
const (
	IntentNone    Intent = ""
	IntentStart   Intent = "start"
	IntentStop    Intent = "stop"
	IntentRestart Intent = "restart" // a stop that is followed by a start
	IntentRemove  Intent = "remove"  // of one that runs, too: it is being killed for that
	IntentUpdate  Intent = "update"  // of a running unit's limits
)

// Container is the record of one container. It is data: the engine owns the
// one copy that counts and hands out clones. What is not set is left out of what
// is stored, here and in all it has: a start may have a thousand to read.
type Container struct {
	ID       ContainerID     `json:",omitzero"`
	Name     string          `json:",omitzero"` // without docker's leading slash
	Created  time.Time       `json:",omitzero"`
	Image    ImageID         `json:",omitzero"`
	ImageRef string          `json:",omitzero"` // as the user named it
	Path     string          `json:",omitzero"` // the program, from entrypoint and command
	Args     []string        `json:",omitzero"`
	Config   ContainerConfig `json:",omitzero"` // merged with the image's
	Host     HostConfig      `json:",omitzero"`
	State    State           `json:",omitzero"`
	Intent   Intent          `json:",omitzero"`
	Run      Run             `json:",omitzero"`
	Ended    *Run            `json:",omitempty"` // how Run has ended, from when that is known until all of it is torn down
	Stopped  bool            `json:",omitzero"`  // by the user; restart policy "unless-stopped" and "always" heed it
	Network  *Attachment     `json:",omitzero"`
	// Endpoints are what is asked for in each network, by its name; nil is not none, see WantedEndpoints.
	Endpoints map[string]Endpoint `json:",omitzero"`
	Mounts    []MountPoint        `json:",omitzero"`
	IDMaps    *IDMaps             `json:",omitempty"` // of its own user namespace; nil in the engine's
	SELinux   SELinux             `json:",omitzero"`
	LogPath   string              `json:",omitzero"` // of a log driver that keeps a file
	Dir       string              `json:",omitzero"` // the container's own directory, D/containers/<id>

	// RemoveVolumes says that its removal, once begun, takes its anonymous volumes along.
	RemoveVolumes bool `json:",omitempty"`

	// StopAs is how its end was asked for, with IntentStop or IntentRestart, for a daemon that has to go on with it.
	StopAs *StopOptions `json:",omitempty"`

	// LinkedTo are its links as inspect tells of them, /NAME:/OWNER/ALIAS, and LinkedAs what those
	// that link to it call it, OWNER/ALIAS; for those who look, not in the record.
	LinkedTo, LinkedAs []string `json:"-"`

	// Execs are the processes in it that have not ended; for those who look, not in the record.
	Execs []ExecID `json:"-"`
}

// Run is what is known of the latest run of a container's process.
type Run struct {
	PID        int       `json:",omitzero"` // in the host's pid namespace; 0 when there is no process
	StartedAt  time.Time `json:",omitzero"`
	FinishedAt time.Time `json:",omitzero"`
	ExitCode   int       `json:",omitzero"`  // 128+n for signal n
	OOMKilled  bool      `json:",omitzero"`  // the kernel killed its process, or another in it, for want of memory
	OOMKills   uint64    `json:",omitzero"`  // how many of those are known to all
	Error      string    `json:",omitzero"`  // why the last start failed, or what was wrong at the end
	Restarts   int       `json:",omitzero"`  // by the restart policy, since the user last started it
	Frozen     bool      `json:",omitzero"`  // its processes stand still: it is paused, or for a commit, after which a restarted engine lets them go
	Health     *Health   `json:",omitempty"` // nil without a check
	Again      bool      `json:",omitempty"` // it is being ended for its health, to be started again
}

// ContainerConfig is the portable part of a container: what docker calls Config.
type ContainerConfig struct {
	Hostname     string            `json:",omitzero"`
	Domainname   string            `json:",omitzero"`
	User         string            `json:",omitzero"` // user[:group], names or numbers, looked up in the image
	AttachStdin  bool              `json:",omitzero"`
	AttachStdout bool              `json:",omitzero"`
	AttachStderr bool              `json:",omitzero"`
	TTY          bool              `json:",omitzero"`
	OpenStdin    bool              `json:",omitzero"`
	StdinOnce    bool              `json:",omitzero"` // close stdin when the first attached client leaves
	Env          []string          `json:",omitzero"`
	Cmd          []string          `json:",omitzero"`
	Entrypoint   []string          `json:",omitzero"`
	Image        string            `json:",omitzero"`
	WorkingDir   string            `json:",omitzero"`
	ExposedPorts []Port            `json:",omitzero"`
	Volumes      []string          `json:",omitzero"` // paths that the image declares as volumes
	Labels       map[string]string `json:",omitzero"`
	StopSignal   string            `json:",omitzero"` // name or number; empty means SIGTERM
	StopTimeout  *int              `json:",omitzero"` // seconds; nil means 10, negative means for ever
	OnBuild      []string          `json:",omitzero"`
	Shell        []string          `json:",omitzero"`
	Healthcheck  *Healthcheck      `json:",omitzero"`
	// NetworkDisabled is how old clients say NetworkNone, which the mode is then; for inspect.
	NetworkDisabled bool `json:",omitempty"`
}

// Protocol of a port: "tcp" or "udp".
type Protocol string

// The protocols that can be published.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// Port is a port of a container.
type Port struct {
	Number uint16   `json:",omitzero"`
	Proto  Protocol `json:",omitzero"`
}

// PortBinding publishes a container's port at an address of the host.
type PortBinding struct {
	Port     Port       `json:",omitzero"`
	HostIP   netip.Addr `json:",omitzero"` // the zero Addr means every address
	HostPort uint16     `json:",omitzero"` // 0 asks for a free one; a published binding has the one it got
	// HostPortEnd ends a range from HostPort on, of which a free one is asked for; 0 without a range.
	HostPortEnd uint16 `json:",omitempty"`
}

// Choices is how many host ports would do.
func (b PortBinding) Choices() int {
	switch {
	case b.HostPort == 0:
		return 1 << 16
	case b.HostPortEnd > b.HostPort:
		return int(b.HostPortEnd-b.HostPort) + 1
	}
	return 1
}

// NetworkMode chooses a container's network: "bridge" (also "default" and
// empty at the API), "host", "none", or a network's name.
type NetworkMode string

// The built-in network modes.
const (
	NetworkBridge NetworkMode = "bridge"
	NetworkHost   NetworkMode = "host"
	NetworkNone   NetworkMode = "none"
)

// RestartMode is docker's restart policy name.
type RestartMode string

// The restart policies.
const (
	RestartNo            RestartMode = "no"
	RestartAlways        RestartMode = "always"
	RestartOnFailure     RestartMode = "on-failure"
	RestartUnlessStopped RestartMode = "unless-stopped"
)

// RestartPolicy says when an ended container is started again.
type RestartPolicy struct {
	Mode       RestartMode `json:",omitzero"`
	MaxRetries int         `json:",omitzero"` // for on-failure; 0 means no limit
}

// LogConfig chooses a log driver and its options.
type LogConfig struct {
	Driver  string            `json:",omitzero"` // "json-file" or "none"
	Options map[string]string `json:",omitzero"`
}

// Ulimit is one setrlimit(2) limit, by its name in lower case without RLIMIT_.
type Ulimit struct {
	Name       string `json:",omitzero"`
	Soft, Hard int64  `json:",omitzero"` // -1 means unlimited
}

// Resources are the limits that become properties of the container's unit
// (systemd.resource-control(5)). Zero means no limit.
type Resources struct {
	Memory            int64  `json:",omitzero"` // bytes; MemoryMax
	MemoryReservation int64  `json:",omitzero"` // bytes; MemoryLow
	MemorySwap        int64  `json:",omitzero"` // bytes of memory and swap together; -1 means unlimited swap
	NanoCPUs          int64  `json:",omitzero"` // 1e-9 cpus; CPUQuota
	CPUPeriod         int64  `json:",omitzero"` // microseconds; CPUQuotaPeriodSec
	CPUQuota          int64  `json:",omitzero"` // microseconds in a period
	CPUShares         int64  `json:",omitzero"` // docker's weight, 1024 is the usual one; CPUWeight
	CpusetCpus        string `json:",omitzero"` // AllowedCPUs
	CpusetMems        string `json:",omitzero"` // AllowedMemoryNodes
	PidsLimit         int64  `json:",omitzero"` // TasksMax; 0 and -1 mean no limit
	BlkioWeight       uint16 `json:",omitzero"` // 10 to 1000; IOWeight
}

// MountType says what a mount of a container is.
type MountType string

// The mount types.
const (
	MountBind   MountType = "bind"
	MountTmpfs  MountType = "tmpfs"
	MountVolume MountType = "volume"
	MountImage  MountType = "image"
)

// MountPoint is one mount asked for by the user.
type MountPoint struct {
	Type         MountType `json:",omitzero"`
	Source       string    `json:",omitzero"` // path of a bind or of a volume
	Target       string    `json:",omitzero"` // absolute path in the container
	ReadOnly     bool      `json:",omitzero"`
	Propagation  string    `json:",omitzero"`  // mount_namespaces(7): rprivate (default), private, rshared, shared, rslave, slave
	NonRecursive bool      `json:",omitzero"`  // bind without what is mounted below
	ReadOnlyTop  bool      `json:",omitempty"` // read-only without what is mounted below
	Relabel      string    `json:",omitempty"` // SELinux: z for all containers, Z for this one alone
	CreateSource bool      `json:",omitzero"`  // make the host directory where it is missing (-v does, --mount does not)
	TmpfsOptions string    `json:",omitzero"`  // as mount(8) takes them: "size=64m,mode=1770"
	Mode         string    `json:",omitzero"`  // as the user wrote it after the second colon of -v, for inspect
	ReadOnlyAll  bool      `json:",omitempty"` // ReadOnlyForceRecursive was asked for, which read-only is anyway; for inspect
	Consistency  string    `json:",omitempty"` // means something on a Mac only; for inspect
	Spec         bool      `json:",omitempty"` // a tmpfs of --mount and not of --tmpfs; for inspect

	// Of an image; Name is what the user calls it.
	Image ImageID     `json:",omitempty"`
	Layer ContainerID `json:",omitempty"` // on top of it, the container's own

	// Of a volume; Source is where its files are.
	Name      string         `json:",omitempty"`
	Driver    string         `json:",omitempty"`
	Anonymous bool           `json:",omitempty"` // it goes with the container, where that is asked for
	NoCopy    bool           `json:",omitempty"` // do not fill it with the image's content
	SubPath   string         `json:",omitempty"` // the part of it to mount; of an image too
	Ask       *VolumeRequest `json:",omitempty"` // how it is made where it is missing
}

// HostConfig is the part of a container that depends on the host. Every field
// here is done; what moss cannot do is refused where the request is decoded.
type HostConfig struct {
	Binds           []string          `json:",omitzero"` // as the user wrote them, for inspect; Mounts has the meaning
	Mounts          []MountPoint      `json:",omitzero"`
	VolumesFrom     []VolumesFrom     `json:",omitzero"`
	Links           []Link            `json:",omitempty"`
	VolumeDriver    string            `json:",omitzero"` // of volumes that are made for it
	NetworkMode     NetworkMode       `json:",omitzero"`
	PortBindings    []PortBinding     `json:",omitzero"`
	PublishAll      bool              `json:",omitzero"` // publish every exposed port at a free one
	RestartPolicy   RestartPolicy     `json:",omitzero"`
	AutoRemove      bool              `json:",omitzero"`
	ContainerIDFile string            `json:",omitzero"`
	LogConfig       LogConfig         `json:",omitzero"`
	ConsoleSize     TermSize          `json:",omitzero"`
	Annotations     map[string]string `json:",omitzero"`
	CapAdd          []string          `json:",omitzero"` // names with or without CAP_, or ALL
	CapDrop         []string          `json:",omitzero"`
	Privileged      bool              `json:",omitzero"` // all that the user namespace allows
	ReadonlyRootfs  bool              `json:",omitzero"`
	SecurityOpt     []string          `json:",omitzero"` // as the user wrote them, for inspect
	NoNewPrivileges bool              `json:",omitzero"`
	Seccomp         string            `json:",omitzero"` // "" docker's default, "unconfined", or the JSON text of a profile
	MaskedPaths     []string          `json:",omitzero"` // nil means the default list
	ReadonlyPaths   []string          `json:",omitzero"`
	GroupAdd        []string          `json:",omitzero"`
	DNS             []netip.Addr      `json:",omitzero"`
	DNSOptions      []string          `json:",omitzero"`
	DNSSearch       []string          `json:",omitzero"`
	ExtraHosts      []string          `json:",omitzero"` // name:address, or name:host-gateway
	ShmSize         int64             `json:",omitzero"` // bytes; 0 means 64 MiB
	Sysctls         map[string]string `json:",omitzero"`
	Ulimits         []Ulimit          `json:",omitzero"`
	OomScoreAdj     int               `json:",omitzero"`
	CgroupNS        string            `json:",omitzero"` // "private" (default) or "host"
	IpcMode         string            `json:",omitzero"` // "private" (default), "shareable", "none", "host" or "container:ID"
	PidMode         string            `json:",omitzero"` // "", "host" or "container:ID"
	UTSMode         string            `json:",omitzero"` // "" or "host"
	Runtime         string            `json:",omitzero"` // name or path of an OCI runtime; "" is moss-runtime
	Umask           *uint32           `json:",omitzero"`
	Init            *bool             `json:",omitzero"` // nil means the engine's default
	UsernsMode      string            `json:",omitzero"` // as the user wrote it; "" or "host" is the engine's
	Userns          Userns            `json:",omitzero"` // what it means
	CgroupParent    string            `json:",omitzero"` // a slice of the user's manager; "" is moss's own
	Devices         []Device          `json:",omitzero"`
	Resources       Resources         `json:",omitzero"`
	Secrets         []SecretUse       `json:",omitempty"` // and configs, that are mounted as files
	DeviceLimits    []DeviceLimit     `json:",omitempty"`
	LabelOpts       []string          `json:",omitempty"` // of SELinux, see CheckLabelOption
	AppArmor        string            `json:",omitempty"` // name of a profile that is loaded; "" leaves it to the kernel
}

// TermSize is the size of a terminal in character cells.
type TermSize struct {
	Rows, Cols uint16 `json:",omitzero"`
}
