package records

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// heldError says who keeps this daemon from the records.
type heldError struct {
	who string
	err error
}

func (e *heldError) Error() string {
	return e.who + " has it open: stop that one, or give this engine a data-root of its own"
}

func (e *heldError) Unwrap() error { return e.err }

// holder names the process that has a file locked.
func holder(path string) string {
	const somebody = "another mossd"
	st, err := os.Stat(path)
	if err != nil {
		return somebody
	}
	file, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return somebody
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return somebody
	}
	pid, ok := lockedBy(string(locks), file.Ino)
	if !ok {
		return somebody
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(command) == 0 {
		return fmt.Sprintf("%s (pid %d)", somebody, pid)
	}
	return fmt.Sprintf("%s (pid %d, %s)", somebody, pid, strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " ")))
}

// lockedBy finds who holds a flock of an inode in proc_locks(5). The device is not
// compared: that of a subvolume is another one there than in stat(2).
func lockedBy(locks string, inode uint64) (pid int, ok bool) {
	for line := range strings.Lines(locks) {
		f := strings.Fields(line) // 1: FLOCK ADVISORY WRITE 1234 fd:00:5678 0 EOF; "->" for who waits
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		if !strings.HasSuffix(f[5], ":"+strconv.FormatUint(inode, 10)) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			return pid, true
		}
	}
	return 0, false
}
