package process

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/children"
)

// Clear ends all children of this process and takes their status. A process that
// could not be started leaves its halves behind where its container ends meanwhile:
// libcontainer waits for the one it began with, not for those that one has made. They
// are in the container's pid namespace, whose first process the kernel lets go only
// when somebody has waited for every other; whoever inherits them does not know them.
func Clear() {
	// Most are on their way, as their pipes have been closed; what cannot be read is waited for.
	_ = children.Kill()
	for {
		if _, err := unix.Wait4(-1, nil, unix.WALL, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // there is none
		}
	}
}

// Reap takes the status of those children that have ended, but of one.
func Reap(keep int) {
	pids, _ := children.List() // what cannot be read is left to who inherits it
	for _, pid := range pids {
		if pid != keep {
			_, _ = unix.Wait4(pid, nil, unix.WALL|unix.WNOHANG, nil) // it may go on
		}
	}
}
