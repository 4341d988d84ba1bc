// Package cgroup reads where a process is in the unified hierarchy, and what
// became of those there (cgroups(7)).
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Own is the file that tells of the calling process.
const Own = "/proc/self/cgroup"

// mount is where the hierarchies are.
const mount = "/sys/fs/cgroup"

// Of is the file that tells of another process.
func Of(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/cgroup" }

// Dirs are where a cgroup may be, below where the hierarchies are mounted; on a
// hybrid machine the unified one is one level down.
func Dirs(mount, path string) []string {
	return []string{filepath.Join(mount, path), filepath.Join(mount, "unified", path)}
}

// Dir is the directory of the cgroup that a file like /proc/PID/cgroup names.
func Dir(file string) (string, error) {
	path, err := Path(file)
	if err != nil {
		return "", err
	}
	return dirBelow(mount, path)
}

func dirBelow(mount, path string) (string, error) {
	var errs []error
	for _, dir := range Dirs(mount, path) {
		_, err := os.Stat(filepath.Join(dir, "cgroup.procs"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// Path is the cgroup that a file like /proc/PID/cgroup names, below where the
// unified hierarchy is mounted; also one that has been removed meanwhile.
func Path(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	path, ok := pathIn(string(text))
	if !ok {
		return "", fmt.Errorf("%s names no unified hierarchy", file)
	}
	return path, nil
}

func pathIn(text string) (path string, ok bool) {
	for line := range strings.Lines(text) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return strings.TrimSuffix(path, " (deleted)"), true
		}
	}
	return "", false
}

// OOMKills is how many processes the kernel has killed for want of memory, by a
// file memory.events (cgroups(7)).
func OOMKills(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return oomKillsIn(string(text))
}

func oomKillsIn(text string) (uint64, error) {
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			return strconv.ParseUint(strings.TrimSpace(n), 10, 64)
		}
	}
	return 0, nil
}
