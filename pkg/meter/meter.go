package meter

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moss-containers/moss/pkg/moss"
)

// Meter reads the kernel's files.
type Meter struct {
	// Proc is where proc(5) is.
	Proc string
	// Main is set where containers have no cgroup each, and tells a running one's main
	// process. What its processes share is then a mount namespace.
	Main func(id moss.ContainerID) (pid int, err error)
	// mounts are the places of cgroup hierarchies: "" is cgroup v2, "name=systemd" the manager's of v1.
	mounts map[string]mount
}

// mount is a place where a cgroup hierarchy is seen from one of its cgroups down.
type mount struct{ root, point string }

// New reads where the cgroups are.
func New() (*Meter, error) {
	m := &Meter{Proc: "/proc"}
	f, err := os.Open(filepath.Join(m.Proc, "self/mountinfo"))
	if err != nil {
		return nil, moss.Wrap(err, "find the cgroups", "")
	}
	defer f.Close()
	m.mounts = map[string]mount{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, at, ok := cgroupMount(lines.Text())
		if _, known := m.mounts[name]; ok && !known {
			m.mounts[name] = at
		}
	}
	return m, nil
}

// cgroupMount reads a line of mountinfo, see proc_pid_mountinfo(5).
func cgroupMount(line string) (name string, at mount, ok bool) {
	before, after, _ := strings.Cut(line, " - ")
	b, a := strings.Split(before, " "), strings.Split(strings.TrimSuffix(after, "\n"), " ") // other blanks may be in paths
	if len(b) < 6 || len(a) < 3 {
		return "", at, false
	}
	at = mount{root: unescape(b[3]), point: unescape(b[4])}
	switch {
	case a[0] == "cgroup2":
		return "", at, true
	case a[0] == "cgroup" && slices.Contains(strings.Split(a[2], ","), "name=systemd"):
		return "name=systemd", at, true
	}
	return "", mount{}, false
}

// unescape undoes what the kernel does to blanks in paths.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

var errNotRunning = moss.Errorf(moss.Conflict, "it does not run")

// unitDir is the cgroup of a container's unit, by its main process; whether the
// hierarchy is v2, with files that tell what is used. Errors: Conflict when it does not run.
func (m *Meter) unitDir(id moss.ContainerID, pid int) (dir string, v2 bool, err error) {
	if m.ending(pid) {
		return "", false, errNotRunning
	}
	if m.Main != nil {
		if main, err := m.Main(id); err != nil || main != pid {
			return "", false, errors.Join(errNotRunning, err)
		}
		return m.proc(pid, "none"), false, nil
	}
	text, err := os.ReadFile(m.proc(pid, "cgroup"))
	if err != nil {
		return "", false, gone(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		at, ok := m.mounts[parts[1]]
		unit, mine := unitPath(parts[2], id)
		if !ok || !mine {
			continue
		}
		below, err := filepath.Rel(at.root, unit)
		if err == nil && filepath.IsLocal(below) {
			found[parts[1]] = filepath.Join(at.point, below)
		}
	}
	for _, name := range []string{"", "name=systemd"} {
		if dir, ok := found[name]; ok {
			return dir, name == "", nil
		}
	}
	return "", false, errNotRunning // the number is another process's now
}

// pfExiting is the kernel's PF_EXITING.
const pfExiting = 0x4

// ending says whether a process is on its way out: the first of a pid namespace
// stays until all others in it, which it takes along, have ended and been reaped.
func (m *Meter) ending(pid int) bool {
	text, err := os.ReadFile(m.proc(pid, "stat"))
	if err != nil {
		return false // the next look tells
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	return err == nil && flags&pfExiting != 0
}

// unitPath cuts a cgroup's path off below the container's unit.
func unitPath(path string, id moss.ContainerID) (string, bool) {
	segments := strings.Split(path, "/")
	i := slices.IndexFunc(segments, func(s string) bool { return strings.HasSuffix(s, "-"+id.Short()+".service") })
	if i < 0 {
		return "", false
	}
	return strings.Join(segments[:i+1], "/"), true
}

// pids are those of a container's processes, by its unit's cgroup or its main one.
func (m *Meter) pids(dir string, main int) ([]int, error) {
	if m.Main == nil {
		return pids(dir)
	}
	mounts, err := os.Readlink(m.proc(main, "ns/mnt"))
	if err != nil {
		return nil, gone(err)
	}
	entries, err := os.ReadDir(m.Proc)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if theirs, err := os.Readlink(m.proc(pid, "ns/mnt")); err == nil && theirs == mounts {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all, nil
}

// pids are those of all processes in a cgroup and below.
func pids(dir string) ([]int, error) {
	var all []int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			if errors.Is(err, fs.ErrNotExist) && path != dir {
				return nil // it went meanwhile
			}
			return err
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				all = append(all, pid)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	slices.Sort(all)
	return slices.Compact(all), gone(err)
}

func (m *Meter) proc(pid int, name string) string {
	return filepath.Join(m.Proc, strconv.Itoa(pid), name)
}

// gone tells what ended meanwhile from what failed.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || isNoProcess(err) {
		return errNotRunning
	}
	return err
}
