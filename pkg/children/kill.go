// Package children ends what a process has begun and lost sight of.
package children

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// List is every child of this process (proc_pid_task_children(5)), those that have
// ended and are not waited for among them.
func List() ([]int, error) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// Kill sends SIGKILL to every child of this process, which is still to be waited for.
func Kill() error {
	pids, err := List()
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL) // ours to reap: still the same
	}
	return err
}
