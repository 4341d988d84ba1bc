package runtime

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Environment is what a specification depends on besides the container: facts
// about the engine's process that every container inherits.
type Environment struct {
	// Capabilities are those the engine can give, CAP_ in front, in the kernel's order.
	Capabilities []string
	// Devices are the nodes a privileged container gets beside the usual ones.
	Devices []specs.LinuxDevice
	// OOMScoreAdj is the engine's own; nothing it starts can go below (proc_pid_oom_score_adj(5)).
	OOMScoreAdj int
	// IDs is how many user and group ids the user namespace has, from 0 upwards.
	IDs uint32
	// Rlimits are the hard limits that cannot be raised, by name without RLIMIT_, in lower case.
	Rlimits map[string]uint64
	// Init is the program that is mounted as the init of containers that ask for one.
	Init string
	// Mqueue says that the host has /dev/mqueue (mq_overview(7)).
	Mqueue bool
}

// rlimits are the names of getrlimit(2).
var rlimits = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// Probe looks at the calling process, which must be in the holder's namespaces.
func Probe() (Environment, error) {
	env := Environment{Rlimits: make(map[string]uint64, len(rlimits))}
	for name, n := range rlimits {
		var l unix.Rlimit
		if err := unix.Getrlimit(n, &l); err != nil {
			return env, fmt.Errorf("cannot read the limit %q of this process: %w", name, err)
		}
		env.Rlimits[name] = l.Max
	}
	if _, err := os.Stat("/dev/mqueue"); err == nil {
		env.Mqueue = true
	}
	var errs [4]error
	env.Capabilities, errs[0] = ownCapabilities()
	env.OOMScoreAdj, errs[1] = ownOOMScoreAdj()
	env.IDs, errs[2] = mappedIDs("/proc/self/gid_map")
	env.Devices, errs[3] = devices("/dev")
	if err := errors.Join(errs[:]...); err != nil {
		return env, fmt.Errorf("cannot look at this process: %w", err)
	}
	return env, nil
}

func ownCapabilities() ([]string, error) {
	caps, err := capability.NewPid2(0)
	if err != nil {
		return nil, err
	}
	if err := caps.Load(); err != nil {
		return nil, err
	}
	var names []string
	for _, c := range capability.ListKnown() {
		if caps.Get(capability.BOUNDING, c) && caps.Get(capability.PERMITTED, c) {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names, nil
}

func ownOOMScoreAdj() (int, error) {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// mappedIDs counts the ids from 0 on without a gap in an id map
// (user_namespaces(7)).
func mappedIDs(file string) (uint32, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sizes := map[uint64]uint64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		var inside, outside, size uint64
		if _, err := fmt.Sscan(s.Text(), &inside, &outside, &size); err != nil {
			return 0, fmt.Errorf("cannot read %s: %w", file, err)
		}
		sizes[inside] = size
	}
	var n uint64
	for sizes[n] > 0 {
		n += sizes[n]
	}
	return uint32(min(n, 1<<32-1)), nil
}

// ownDevice names what every container gets of its own.
var ownDevice = map[string]bool{
	"pts": true, "ptmx": true, "shm": true, "mqueue": true, "fd": true, "console": true, "tty": true,
	"null": true, "zero": true, "full": true, "random": true, "urandom": true, "core": true, "log": true,
}

// devices lists the device nodes below dir that a privileged container is to
// have beside its own.
func devices(dir string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			// A directory that this user may not read has nothing for him.
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if filepath.Dir(path) == dir && ownDevice[d.Name()] {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if d.Type()&fs.ModeDevice != 0 {
			var st unix.Stat_t
			if unix.Lstat(path, &st) == nil { // it may have gone
				out = append(out, device(path, st))
			}
		}
		return nil
	})
	return out, err
}

func device(path string, st unix.Stat_t) specs.LinuxDevice {
	kind := "c"
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	return specs.LinuxDevice{
		Path: path, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: new(fs.FileMode(st.Mode & 0o777)), UID: new(st.Uid), GID: new(st.Gid),
	}
}
