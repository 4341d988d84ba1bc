// Package record keeps the few facts about a container which start, state,
// kill, delete and ps need, in one small file beside libcontainer's state.
// libcontainer's own state.json holds the whole configuration, seccomp rules
// included, and takes longer to read than those commands take to run.
//
// Files of a container's directory, <root>/<id>/:
//
//	moss.json   this record; written last by create, replaced atomically
//	state.json  libcontainer's state
//	seccomp     the filter's program, where state.json has a stand-in for the profile
//	exec.fifo   exists while the container is created and not started
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"golang.org/x/sys/unix"
)

// Errors a caller can tell apart.
var (
	ErrNotExist   = errors.New("container does not exist")
	ErrNotRunning = errors.New("container not running")
	ErrBadID      = errors.New("invalid container id: only letters, digits and _ + - . are allowed")
)

const (
	recordFile = "moss.json"
	fifoFile   = "exec.fifo"
)

// Status is a container's state in the words of the runtime specification.
type Status string

// The states a container can be found in.
const (
	Created Status = "created"
	Running Status = "running"
	Paused  Status = "paused"
	Stopped Status = "stopped"
)

// Record is what is known about a container since its creation. It never
// changes afterwards.
type Record struct {
	ID          string            `json:"id"`
	OCIVersion  string            `json:"ociVersion"`
	Pid         int               `json:"pid"`
	StartTime   uint64            `json:"startTime"` // clock ticks since boot: tells a recycled pid
	Created     time.Time         `json:"created"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Cgroup      string            `json:"cgroup"`     // below the hierarchy's root
	OwnCgroup   bool              `json:"ownCgroup"`  // nothing else lived there at creation
	PrivatePID  bool              `json:"privatePID"` // ending PID 1 ends all
	NestedUser  bool              `json:"nestedUser"` // in a user namespace of its own
	FullDelete  bool              `json:"fullDelete"` // hooks or a cgroup of our making: libcontainer must tear down

	dir string
}

// Dir returns the directory of container id below root, after a check of the id.
func Dir(root, id string) (string, error) {
	if id == "" || id == "." || id == ".." {
		return "", ErrBadID
	}
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_+-.", c) >= 0:
		default:
			return "", ErrBadID
		}
	}
	return filepath.Join(root, id), nil
}

// Load reads the record of container id. ErrNotExist if there is none.
func Load(root, id string) (*Record, error) {
	dir, err := Dir(root, id)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	r, err := decode(id, data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the record of container %q: %w", id, err)
	}
	r.dir = dir
	return r, nil
}

func decode(id string, data []byte) (*Record, error) {
	r := &Record{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	switch {
	case r.ID != id:
		return nil, fmt.Errorf("it is that of %q", r.ID)
	case r.Pid <= 0: // kill(2) takes it for many processes
		return nil, fmt.Errorf("%d is no process", r.Pid)
	}
	return r, nil
}

// Save writes the record below root. No fsync: the directory does not outlive
// a reboot and neither does the container.
func (r *Record) Save(root string) error {
	dir, err := Dir(root, r.ID)
	if err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(dir, recordFile), data); err != nil {
		return err
	}
	r.dir = dir
	return nil
}

// WriteFile puts data at path so that a reader sees all of it or nothing.
func WriteFile(path string, data []byte) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid()))
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// Fifo returns the path of the pipe the created container waits at.
func (r *Record) Fifo() string { return filepath.Join(r.dir, fifoFile) }

// Path returns the container's state directory.
func (r *Record) Path() string { return r.dir }

// Status finds out the container's state now.
func (r *Record) Status() (Status, error) {
	if !r.alive() {
		return Stopped, nil
	}
	if r.OwnCgroup {
		frozen, err := cgroup.Frozen(r.Cgroup)
		if err != nil {
			return "", err
		}
		if frozen {
			return Paused, nil
		}
	}
	switch _, err := os.Lstat(r.Fifo()); {
	case err == nil:
		return Created, nil
	case errors.Is(err, fs.ErrNotExist):
		return Running, nil
	default:
		return "", err
	}
}

func (r *Record) alive() bool {
	start, state, err := procStat(r.Pid)
	return err == nil && start == r.StartTime && state != 'Z' && state != 'X'
}

// Pidfd opens a handle on the container's PID 1. ErrNotRunning if it has ended.
func (r *Record) Pidfd() (*os.File, error) {
	fd, err := unix.PidfdOpen(r.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	// Checked after the handle is taken: the pid cannot be recycled under it.
	if !r.alive() {
		return nil, errors.Join(ErrNotRunning, f.Close())
	}
	return f, nil
}

// Signal sends sig to the container's PID 1.
func (r *Record) Signal(sig unix.Signal) error {
	pidfd, err := r.Pidfd()
	if err != nil {
		return err
	}
	defer pidfd.Close()
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return ErrNotRunning
		}
		return os.NewSyscallError("pidfd_send_signal", err)
	}
	return nil
}

// StartTime returns when process pid began, in clock ticks since boot.
func StartTime(pid int) (uint64, error) {
	start, _, err := procStat(pid)
	return start, err
}

// procStat reads the start time and the state letter from /proc/<pid>/stat.
func procStat(pid int) (start uint64, state byte, err error) {
	file := "/proc/" + strconv.Itoa(pid) + "/stat"
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	start, state, ok := parseStat(string(data))
	if !ok {
		return 0, 0, fmt.Errorf("cannot parse %s", file)
	}
	return start, state, nil
}

func parseStat(s string) (start uint64, state byte, ok bool) {
	// The command name is in parentheses and may hold anything.
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	const startField = 22 - 3 // proc(5) counts from 1, the state is field 3
	if len(fields) <= startField {
		return 0, 0, false
	}
	start, err := strconv.ParseUint(fields[startField], 10, 64)
	return start, fields[0][0], err == nil
}
