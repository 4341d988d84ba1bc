package moss

import "time"

// ProcessInfo is a process of a container as ps(1) tells of it.
type ProcessInfo struct {
	PID, PPID, PGID, SID int // in the host's pid namespace
	UID, GID             int // effective ones, as the engine's user namespace has them
	User, Group          string
	State                string // one letter, see proc_pid_stat(5)
	TTY                  string // "?" for none
	Foreground           bool   // of its terminal
	Nice, Threads        int
	Started              time.Time
	CPU                  time.Duration
	VSZ, RSS             int64 // bytes
	Comm                 string
	Args                 []string // none of a kernel thread, or of a process that has ended
}

// ProcessList are a container's processes, and what is needed to judge them by.
type ProcessList struct {
	Processes []ProcessInfo
	At        time.Time
	Memory    int64 // of the machine, in bytes
}

// Sample is what a container used until a moment, and holds at it.
type Sample struct {
	At                    time.Time
	CPU, CPUUser, CPUKern time.Duration
	SystemCPU             time.Duration // of the whole machine since its boot, idle time too
	CPUs                  int
	Periods, Throttled    uint64
	ThrottledTime         time.Duration
	Memory, MemoryLimit   uint64 // bytes; the limit is the machine's memory where there is none
	MemoryStats           map[string]uint64
	MemoryFailures        uint64 // how often it ran into its limit
	PIDs, PIDsLimit       uint64 // processes and threads; 0 means no limit
	BlockIO               []BlockIO
	Networks              map[string]LinkUse // by interface; nil where it uses the host's
}

// BlockIO is what went from ("read") or to ("write") a disk.
type BlockIO struct {
	Major, Minor uint64
	Op           string
	Bytes        uint64
}

// LinkUse is what went over a network interface, seen from the container.
type LinkUse struct {
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// Stats is what a container uses now, and used a moment before. Both are zero
// while it does not run.
type Stats struct {
	ID          ContainerID
	Name        string
	Now, Before Sample
}

// StatsMode says how often to measure.
type StatsMode uint8

// The modes of stats.
const (
	StatsStream StatsMode = iota // every second
	StatsPair                    // twice, a second apart, and told once
	StatsOnce                    // once, without what was before
)
