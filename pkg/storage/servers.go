package storage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/children"
	"github.com/moss-containers/moss/pkg/moss"
)

// servers looks after the processes that serve a mount program's mounts, one
// each. Whoever manages the daemon ends what is in the daemon's cgroup together
// with it, and with such a process a running container would lose its root. So
// they live where the mount namespace has its home.
type servers struct {
	group string // directory of their cgroup; "" where they may stay in ours

	mu   sync.Mutex
	pids map[string]int // our children, by what they serve
}

// placed moves the process that serves the mount at dir, which was made just now.
func (v *servers) placed(dir string) error {
	pid, err := serving(dir)
	if err != nil || pid == 0 {
		if v.group == "" {
			return nil
		}
		return errors.Join(errors.New("the process that serves it cannot be found"), err)
	}
	v.mu.Lock()
	if v.pids == nil {
		v.pids = map[string]int{}
	}
	old := v.pids[dir]
	v.pids[dir] = pid
	v.mu.Unlock()
	if old != pid {
		reap(old)
	}
	if v.group == "" {
		return nil
	}
	procs, err := os.OpenFile(filepath.Join(v.group, "cgroup.procs"), os.O_WRONLY, 0)
	if err == nil {
		_, err = procs.WriteString(strconv.Itoa(pid))
		err = errors.Join(err, procs.Close())
	}
	if err != nil {
		return fmt.Errorf("the process %d that serves it would end with the daemon: %w", pid, err)
	}
	return nil
}

// unmounted is called when nothing is mounted at dir any more. Its process ends
// by itself, once nobody has a file of it open.
func (v *servers) unmounted(dir string) {
	v.mu.Lock()
	pid := v.pids[dir]
	delete(v.pids, dir)
	v.mu.Unlock()
	reap(pid)
}

// reap waits for the end of a child in the background, so that it does not stay a zombie.
func reap(pid int) {
	if pid == 0 {
		return
	}
	if p, err := os.FindProcess(pid); err == nil {
		go func() { _, _ = p.Wait() }() // how it ended tells nothing
	}
}

// serving finds the child of ours that serves the mount at dir, 0 where it is no
// child: we are no subreaper, or an earlier daemon made the mount.
func serving(dir string) (int, error) {
	pids, err := children.List()
	for _, pid := range pids {
		// Mount programs have their mount point at the end; see fuse(8).
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && bytes.HasSuffix(line, []byte("\x00"+dir+"\x00")) {
			return pid, nil
		}
	}
	return 0, err
}

// dead says whether the process that served the mount at dir has ended.
func dead(dir string) bool {
	var st unix.Statfs_t // what stat tells, the kernel remembers
	return errors.Is(unix.Statfs(dir, &st), unix.ENOTCONN)
}

// Alive fails when the root file system of a running container, whose main
// process is pid, is not to be had any more.
func (s *Storage) Alive(pid int) error {
	if s.choice.mountProgram == "" || !dead("/proc/"+strconv.Itoa(pid)+"/root") {
		return nil
	}
	return moss.Errorf(moss.Unavailable, "its root file system is gone, as the process of %s that served it has ended; stop the container and start it again, which mounts it anew", s.choice.mountProgram)
}
