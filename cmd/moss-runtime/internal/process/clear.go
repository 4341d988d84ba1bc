package process

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Clear ends all children of this process and takes their status. A process that
// could not be started leaves its halves behind where its container ends meanwhile:
// libcontainer waits for the one it began with, not for those that one has made. They
// are in the container's pid namespace, whose first process the kernel lets go only
// when somebody has waited for every other; whoever inherits them does not know them.
func Clear() {
	// Most are on their way, as their pipes have been closed; what cannot be read is waited for.
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread is gone
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
			}
		}
	}
	for {
		if _, err := unix.Wait4(-1, nil, unix.WALL, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // there is none
		}
	}
}
