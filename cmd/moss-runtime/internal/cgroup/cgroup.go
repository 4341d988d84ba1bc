// Package cgroup knows where a container's processes are and what can be done
// to all of them at once. Only the unified hierarchy (cgroup v2) is spoken.
//
// A moss container normally lives in the very cgroup of its systemd unit: the
// launcher was started there and the container's first process inherits it.
// Nothing is created, so nothing is left, limits set as unit properties are the
// ones the container sees at the root of its cgroup namespace, and the manager
// accepts the process as the unit's own.
package cgroup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/cgroup"
)

// Root is where the unified hierarchy must be mounted.
const Root = "/sys/fs/cgroup"

// Unified tells whether Root is the unified hierarchy.
func Unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(Root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// Own returns the path, below Root, of the calling process's cgroup.
func Own() (string, error) { return read(cgroup.Own) }

// Of returns the path, below Root, of the cgroup process pid is in.
func Of(pid int) (string, error) { return read("/proc/" + strconv.Itoa(pid) + "/cgroup") }

func read(file string) (string, error) {
	path, err := cgroup.Path(file)
	if err != nil {
		return "", fmt.Errorf("cannot find the cgroup: %w", err)
	}
	return path, nil
}

// Dir returns the directory of the cgroup at path.
func Dir(path string) string { return filepath.Join(Root, filepath.Clean("/"+path)) }

// Pids lists the processes in the cgroup at path and in those below it. A
// cgroup that is gone has none.
func Pids(path string) ([]int, error) {
	pids := []int{}
	err := filepath.WalkDir(Dir(path), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		if !d.IsDir() {
			return nil
		}
		data, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
		if err != nil {
			return ignoreGone(err)
		}
		s := bufio.NewScanner(bytes.NewReader(data))
		for s.Scan() {
			if pid, err := strconv.Atoi(s.Text()); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of cgroup %s: %w", path, err)
	}
	return pids, nil
}

// Alone tells whether pid is the only process in the cgroup at path.
func Alone(path string, pid int) (bool, error) {
	pids, err := Pids(path)
	if err != nil {
		return false, err
	}
	return len(pids) == 1 && pids[0] == pid, nil
}

// Kill sends SIGKILL to every process in the cgroup at path and below.
func Kill(path string) error {
	err := write(path, "cgroup.kill", "1")
	return ignoreGone(err)
}

// Frozen tells whether the cgroup at path is (being) frozen by its own switch.
func Frozen(path string) (bool, error) {
	data, err := os.ReadFile(filepath.Join(Dir(path), "cgroup.freeze"))
	if err != nil {
		return false, ignoreGone(err)
	}
	return strings.TrimSpace(string(data)) == "1", nil
}

// freezeTimeout bounds the wait for the kernel to stop every task. A task in
// uninterruptible sleep can hold it up.
const freezeTimeout = 10 * time.Second

// Freeze stops (or lets go) every process in the cgroup at path and returns
// when the kernel reports that it is so.
func Freeze(path string, frozen bool) error {
	want := "0"
	if frozen {
		want = "1"
	}
	// Opened before the switch, so that no change is missed.
	events, err := os.Open(filepath.Join(Dir(path), "cgroup.events"))
	if err != nil {
		return fmt.Errorf("cannot freeze cgroup %s: %w", path, err)
	}
	defer events.Close()
	if err := write(path, "cgroup.freeze", want); err != nil {
		return fmt.Errorf("cannot freeze cgroup %s: %w", path, err)
	}
	for deadline := time.Now().Add(freezeTimeout); ; {
		buf := make([]byte, 256)
		n, err := events.ReadAt(buf, 0)
		if n == 0 {
			return fmt.Errorf("cannot freeze cgroup %s: %w", path, err)
		}
		if strings.Contains(string(buf[:n]), "frozen "+want) {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("cannot freeze cgroup %s: not done after %s", path, freezeTimeout)
		}
		// The kernel raises POLLPRI when the file's content changes.
		fds := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot freeze cgroup %s: %w", path, err)
		}
	}
}

func write(path, file, value string) error {
	f, err := os.OpenFile(filepath.Join(Dir(path), file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// ignoreGone drops the errors which say that a cgroup or process has ended.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// OOMKills is how many processes of the cgroup at path the kernel has killed for
// want of memory; 0 where the memory controller is not delegated.
func OOMKills(path string) (uint64, error) {
	n, err := cgroup.OOMKills(filepath.Join(Dir(path), "memory.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return n, err
}
