package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// probePrefix begins the names of a health check's files in the bundle's
// directory. That with the pid is there as long as the process is, and longer
// where the daemon did not live to see its end; the others while it is started.
const probePrefix = "probe-"

// EndProbes kills the health checks' processes that an earlier daemon has begun
// in a running container. It is called before there are new ones, and after the
// runtimes that the earlier daemon had started are gone, as systemd sees to.
func (r *Runtime) EndProbes(_ context.Context, id moss.ContainerID) error {
	files, err := filepath.Glob(r.file(id, probePrefix+"*"))
	if err != nil || len(files) == 0 {
		return err
	}
	own, err := r.pid(id)
	if err != nil {
		return moss.Wrap(err, "find the processes of", id.Short())
	}
	var errs []error
	for _, file := range files {
		var pids []int
		var err error
		switch filepath.Ext(file) {
		case ".pid":
			pids, err = probePID(file)
		case ".json":
			pids, err = probesInTheMaking(file)
		}
		for _, pid := range pids {
			if pid > 1 && broughtIn(pid, own) {
				err = errors.Join(err, killGroup(pid))
			}
		}
		if err == nil { // else the next daemon tries again
			err = removeAll(file)
		}
		errs = append(errs, err)
	}
	return moss.Wrap(errors.Join(errs...), "end the health checks of", id.Short())
}

// probePID reads a pid; none where the runtime did not come to writing it.
func probePID(file string) ([]int, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	pid, notYet := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || notYet != nil {
		return nil, err
	}
	return []int{pid}, nil
}

// probesInTheMaking are the processes that a runtime may have started of a
// file, but not told the pid of: they run its command, and are no older than it.
func probesInTheMaking(file string) ([]int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	var p specs.Process
	if len(data) == 0 || !json.Valid(data) {
		return nil, nil // nothing was started of that
	}
	if err := json.Unmarshal(data, &p); err != nil || len(p.Args) == 0 {
		return nil, err
	}
	want := []byte(strings.Join(p.Args, "\x00") + "\x00")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || !bytes.Equal(line, want) {
			continue
		}
		if at, ok := startOf(pid); ok && !at.Before(info.ModTime().Add(-2*tick)) {
			pids = append(pids, pid)
		}
	}
	return slices.Clip(pids), nil
}

// tick is the unit of times in proc(5), USER_HZ on every machine.
const tick = 10 * time.Millisecond

// startOf is when a process was started, to a tick.
func startOf(pid int) (time.Time, bool) {
	fields := statOf(pid)
	if len(fields) < 20 {
		return time.Time{}, false
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	var up unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Time{}, false
	}
	return time.Now().Add(time.Duration(ticks)*tick - time.Duration(up.Nano())), true
}

// statOf are the fields of /proc/<pid>/stat from the state on, which is the
// third; none where there is no such process.
func statOf(pid int) []string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the name before may have anything in it
}

// broughtIn says whether a process is in the container whose own process is
// given, and was brought in from outside: its parent is not in it. Another one
// that has got a dead one's pid is not.
func broughtIn(pid, own int) bool {
	fields := statOf(pid)
	if len(fields) < 2 || pid == own {
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
