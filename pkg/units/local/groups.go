package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/cgroup"
	"github.com/moss-containers/moss/pkg/moss"
)

// groups is where each container has a cgroup of its own, as a unit of systemd has:
// below the server's, where that may be written to. It is nobody's where why says so.
type groups struct {
	dir    string // "" where there are none
	prefix string // of the names
	why    string // there are none
}

// cgroupMount is where cgroup v2 is.
const cgroupMount = "/sys/fs/cgroup"

// findGroups looks whether the cgroup of this process may be written to.
func findGroups(prefix string) groups {
	dir, err := ownGroup()
	if err == nil {
		err = tryGroup(filepath.Join(dir, prefix+"-try"))
	}
	if err == nil { // who moves a process writes to what both cgroups have in common
		err = os.NewSyscallError("access "+filepath.Join(dir, "cgroup.procs"), unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK))
	}
	if err != nil {
		return groups{why: err.Error()}
	}
	return groups{dir: dir, prefix: prefix}
}

// ownGroup is the directory of this process's cgroup.
func ownGroup() (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroupMount, &st); err != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", errors.Join(fmt.Errorf("%s is not cgroup v2", cgroupMount), err)
	}
	path, err := cgroup.Path(cgroup.Own)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(path, "/..") {
		return "", fmt.Errorf("the cgroup of this process, %s, is not below %s", path, cgroupMount)
	}
	return filepath.Join(cgroupMount, path), nil
}

// tryGroup makes a cgroup that can freeze, and removes it.
func tryGroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	_, err := os.Stat(filepath.Join(dir, "cgroup.freeze"))
	return errors.Join(err, os.Remove(dir))
}

// of is the directory of a unit's cgroup: pkg/meter knows it by the end of its name.
func (g groups) of(short string) string {
	if g.dir == "" {
		return ""
	}
	return filepath.Join(g.dir, g.prefix+"-"+short+".service")
}

// enter makes a unit's cgroup and opens it for a process to begin in; nil where there is none.
func (g groups) enter(ctx context.Context, short string) (*os.File, error) {
	dir := g.of(short)
	if dir == "" {
		return nil, nil
	}
	if err := removeGroup(ctx, dir); err != nil { // one of before
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Open(dir)
}

// sweep removes what a server that was killed has left.
func (g groups) sweep(ctx context.Context) error {
	if g.dir == "" {
		return nil
	}
	left, err := filepath.Glob(filepath.Join(g.dir, g.prefix+"-????????????.service"))
	for _, dir := range left {
		err = errors.Join(err, removeGroup(ctx, dir))
	}
	return err
}

// removeGroup kills all that is in a cgroup and removes it. One that is not there is no error.
func removeGroup(ctx context.Context, dir string) error {
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := writeGroup(dir, "cgroup.kill", "1"); err != nil {
		return err
	}
	if err := awaitGroup(ctx, dir, "populated 0"); err != nil {
		return err
	}
	return removeTree(dir)
}

// removeTree removes an empty cgroup and those below it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(dir, e.Name())))
		}
	}
	if rm := unix.Rmdir(dir); !errors.Is(rm, unix.ENOENT) {
		err = errors.Join(err, os.NewSyscallError("rmdir "+dir, rm))
	}
	return err
}

func writeGroup(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// awaitGroup waits until a line stands in a cgroup's events.
func awaitGroup(ctx context.Context, dir, line string) error {
	f, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1024)
	for ctx.Err() == nil {
		n, err := f.ReadAt(buf, 0)
		if n == 0 {
			return err
		}
		if bytes.Contains(append([]byte("\n"), buf[:n]...), []byte("\n"+line+"\n")) {
			return nil
		}
		// The kernel raises POLLPRI when the file changes; the caller's end is looked for now and then.
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(time.Second.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
	return ctx.Err()
}

// freeze holds the processes of a unit still, or lets them go.
func (s *Server) freeze(ctx context.Context, short string, frozen bool) error {
	if s.groups.dir == "" {
		return moss.Errorf(moss.NotImplemented, "pausing takes a cgroup for each container, which this service cannot make: %s; systemd's user manager would give them", s.groups.why)
	}
	value := "0"
	if frozen {
		value = "1"
	}
	s.mu.Lock()
	u := s.units[short]
	if u == nil || u.st.Phase != moss.UnitRunning {
		s.mu.Unlock()
		return errNotRunning
	}
	err := writeGroup(u.group, "cgroup.freeze", value)
	s.mu.Unlock()
	if err == nil {
		err = awaitGroup(ctx, u.group, "frozen "+value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.st.Phase != moss.UnitRunning { // it ended meanwhile
		return errNotRunning
	}
	if err == nil && u.st.Frozen != frozen {
		u.st.Frozen = frozen
		s.tellLocked(u)
	}
	return err
}

var errNotRunning = moss.Errorf(moss.Conflict, "it does not run")
