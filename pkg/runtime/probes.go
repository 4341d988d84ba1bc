package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// probePrefix begins the names of the files that have the pids of health
// checks' processes, in the bundle's directory. One is there as long as the
// process is, and longer where the daemon did not live to see its end.
const probePrefix = "probe-"

// EndProbes kills the health checks' processes that an earlier daemon has begun
// in a running container. It is called before there are new ones.
func (r *Runtime) EndProbes(_ context.Context, id moss.ContainerID) error {
	files, err := filepath.Glob(r.file(id, probePrefix+"*.pid"))
	if err != nil || len(files) == 0 {
		return err
	}
	own, err := r.pid(id)
	if err != nil {
		return moss.Wrap(err, "find the processes of", id.Short())
	}
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil && pid > 1 && broughtIn(pid, own) {
			if err := killGroup(pid); err != nil {
				errs = append(errs, fmt.Errorf("cannot kill process %d: %w", pid, err))
				continue // the next daemon tries again
			}
		}
		errs = append(errs, removeAll(file)) // the runtime did not come to writing it, or it is nobody's any more
	}
	return moss.Wrap(errors.Join(errs...), "end the health checks of", id.Short())
}

// broughtIn says whether a process is in the container whose own process is
// given, and was brought in from outside: its parent is not in it. Another one
// that has got a dead one's pid is not.
func broughtIn(pid, own int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || pid == own {
		return false
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the name before may have anything in it
	if len(fields) < 2 {
		return false
	}
	parent, err := strconv.Atoi(fields[1])
	return err == nil && sameMounts(pid, own) && !sameMounts(parent, own)
}

// sameMounts says whether two processes share their mount namespace; not where
// one of them cannot be looked at: the container's own always can.
func sameMounts(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Stat(fmt.Sprintf("/proc/%d/ns/mnt", a), &x) == nil && unix.Stat(fmt.Sprintf("/proc/%d/ns/mnt", b), &y) == nil &&
		x.Dev == y.Dev && x.Ino == y.Ino
}
