package moss

import (
	"context"
	"io"
	"os"
	"syscall"
	"time"
)

// Mount is a file system that storage has put in place for a container.
type Mount struct {
	Path string // the root, in the engine's mount namespace
}

// PublishedPort is an open port of the port driver.
type PublishedPort struct {
	Binding  PortBinding `json:",omitzero"`
	DriverID int         `json:",omitzero"` // of rootlesskit's port API
}

// Bundle is all that an OCI bundle is written from.
type Bundle struct {
	Container  Container
	Rootfs     Mount
	Attachment Attachment
	// IPC and Processes are whose namespaces it shares, by its IpcMode and PidMode.
	IPC, Processes Join
	// Shm is the /dev/shm that it shares with others; "" for one of its own.
	Shm string
	// Links are the linked containers, for its hosts.
	Links []LinkedHost
	// ConsoleSocket is where the runtime sends the terminal; "" without one.
	ConsoleSocket string
	// Hosts, Hostname and Resolv are the files bound over those in /etc.
	Hosts, Hostname, Resolv string
}

// Launch is the command that creates a container, for its unit's ExecStart=.
type Launch struct {
	Args    []string // Args[0] is an absolute path
	Env     []string
	PIDFile string
}

// ChildStdio are the ends that a container's process gets. The one who starts
// the process closes them afterwards. With a terminal all files are nil.
type ChildStdio struct {
	Stdin, Stdout, Stderr *os.File
	ConsoleSocket         string
}

// Close closes the files that are there.
func (c ChildStdio) Close() {
	for _, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		if f != nil {
			_ = f.Close() // another process holds the stream now
		}
	}
}

// StdioSpec says what streams a process has.
type StdioSpec struct {
	TTY       bool
	Stdin     bool // keep stdin open; without it the process reads /dev/null
	StdinOnce bool
	Persist   bool // keep our ends in the descriptor store over a restart of the daemon
	Size      TermSize
	// OneClient is set for an exec: output is kept for the first client until it attaches,
	// and with stdin the stream ends for the process when that client's input ends.
	OneClient bool
}

// AttachIO are a client's streams. A nil writer or reader is not attached.
type AttachIO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	DetachKeys     []byte // nil means none are looked for
}

// StreamKind tells stdout from stderr.
type StreamKind uint8

// The output streams.
const (
	Stdout StreamKind = 1
	Stderr StreamKind = 2
)

// LogLine is one line of a container's log. A line longer than the driver's
// limit comes in several, all but the last with Partial.
type LogLine struct {
	Stream  StreamKind
	Time    time.Time
	Text    []byte // with the newline where there was one
	Partial bool
	Attrs   map[string]string
}

// LogQuery chooses lines of a log.
type LogQuery struct {
	Stdout, Stderr bool
	Follow         bool
	Since, Until   time.Time // zero means no bound
	Tail           int       // lines from the end; -1 means all
}

// UnitSpec is a container's unit as the engine asks for it.
type UnitSpec struct {
	ID          ContainerID
	Description string
	Launch      Launch
	Stdio       ChildStdio
	Slice       string // "" is moss's own
	Resources   Resources
	Devices     []DeviceLimit
	Ulimits     []Ulimit
	OomScoreAdj int
	StopSignal  syscall.Signal
	StopTimeout time.Duration // negative means for ever
}

// UnitPhase is what the engine needs to know of a unit's active and sub state.
type UnitPhase uint8

// The phases of a unit.
const (
	UnitGone     UnitPhase = iota // not loaded, or inactive
	UnitStarting                  // the launcher runs
	UnitRunning                   // the container's process runs
	UnitStopping
	UnitEnded // the process has ended; its exit status is there until the unit is collected
)

func (p UnitPhase) String() string {
	return [...]string{"gone", "starting", "running", "stopping", "ended"}[p]
}

// UnitStatus is what the manager knows of a container's unit.
type UnitStatus struct {
	Short     string // the 12 hex digits in the unit's name
	Phase     UnitPhase
	PID       int // main process, host's pid namespace; also after its end
	StartedAt time.Time
	// Exited says that ExitCode and ExitedAt are the main process's own.
	Exited   bool
	ExitCode int // 128+n for signal n
	ExitedAt time.Time
	// OOMKills is how many of its processes the kernel was seen to kill for want of memory, while it runs and after.
	OOMKills uint64
	// Frozen says that its processes are held still.
	Frozen bool
	// Result is the manager's word for why the unit ended, e.g. "exit-code", "timeout".
	Result string
}

// UnitPast is what the manager has written of a unit's run in the journal.
type UnitPast struct {
	// OOMKills is how often it noticed that the kernel had killed processes for want of memory.
	OOMKills uint64
	OOMAt    time.Time // the last time
	// StoppedAt is when a job of it, as of systemctl stop, had ended the unit; zero where none has.
	StoppedAt time.Time
}

// ExecConfig is a process to run in a running container.
type ExecConfig struct {
	Cmd                                     []string
	Env                                     []string
	User, WorkingDir                        string
	TTY, Privileged                         bool
	AttachStdin, AttachStdout, AttachStderr bool
	DetachKeys                              string
	ConsoleSize                             TermSize
}

// Exec is one process run in a container beside its own.
type Exec struct {
	ID        ExecID
	Container ContainerID
	Config    ExecConfig
	Started   bool
	Running   bool
	PID       int
	ExitCode  *int // nil until it has ended
	Probe     bool // of a health check: it does not outlive the daemon that began it
}

// LogSink takes a container's output as it comes: chunks, not lines. Close ends
// the log of the run.
type LogSink interface {
	Write(kind StreamKind, at time.Time, p []byte) error
	Close() error
}

// ErrDetached is what an attachment ends with after the client typed the detach keys.
var ErrDetached = Errorf(Conflict, "detached")

// Process is a running exec.
type Process interface {
	PID() int
	// Wait returns the exit code (128+n for signal n) once it has ended.
	Wait(ctx context.Context) (int, error)
	// Signal sends a signal; nil when the process has ended.
	Signal(sig syscall.Signal) error
}
