package holder

import (
	"fmt"
	"os"

	"github.com/rootless-containers/rootlesskit/v3/pkg/messages"
	"github.com/rootless-containers/rootlesskit/v3/pkg/network"
	"golang.org/x/sys/unix"
)

// standInHosts lays a directory with an empty file hosts over /etc where that has
// none: rootlesskit's child makes a file of its own of it before it sets its
// network up, and ends without, although nothing reads what it makes here. The
// mount is seen in the child's mount namespace alone, and is to be undone before
// anything else comes there. It takes the child's capabilities, which it has only
// when rootlesskit has started it anew; before that, nothing is done.
func standInHosts() (undo func() error, err error) {
	nothing := func() error { return nil }
	if f, err := os.Open("/etc/hosts"); err == nil {
		return nothing, f.Close()
	}
	switch capable, err := mayMount(); {
	case err != nil:
		return nil, err
	case !capable:
		return nothing, nil
	}
	if err := unix.Mount("tmpfs", "/etc", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return nil, fmt.Errorf("cannot do without /etc/hosts, which this machine does not have: an administrator may make an empty one: mount a stand-in of /etc: %w", err)
	}
	if err := os.WriteFile("/etc/hosts", nil, 0o644); err != nil {
		return nil, err
	}
	return func() error {
		if err := unix.Unmount("/etc", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("cannot unmount the stand-in of /etc: %w", err)
		}
		return nil
	}, nil
}

// mayMount says whether this process may mount in its mount namespace.
func mayMount() (bool, error) {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return false, fmt.Errorf("cannot tell the child's capabilities: %w", err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0, nil
}

// firstUndo is a driver before which something is undone.
type firstUndo struct {
	network.ChildDriver
	undo func() error
}

func (d firstUndo) ConfigureNetworkChild(msg *messages.ParentInitNetworkDriverCompleted, netns string) (string, error) {
	if err := d.undo(); err != nil {
		return "", err
	}
	return d.ChildDriver.ConfigureNetworkChild(msg, netns)
}
