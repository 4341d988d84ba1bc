// Package cgroup reads where a process is in the unified hierarchy (cgroups(7)).
package cgroup

import (
	"fmt"
	"os"
	"strings"
)

// Own is the file that tells of the calling process.
const Own = "/proc/self/cgroup"

// Path is the cgroup that a file like /proc/PID/cgroup names, below where the
// unified hierarchy is mounted; also one that has been removed meanwhile.
func Path(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return strings.TrimSuffix(path, " (deleted)"), nil
		}
	}
	return "", fmt.Errorf("%s names no unified hierarchy", file)
}
