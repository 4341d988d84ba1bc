package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// shmDir is the /dev/shm that a container shares with others, in its bundle: a
// mount of one mount namespace cannot be bound in another.
const shmDir = "shm"

// sharedShm is where a container finds the /dev/shm it shares, its own or
// another's; "" for one that is nobody else's business.
func (r *Runtime) sharedShm(b moss.Bundle) string {
	switch {
	case b.IPC.PID != 0:
		return r.file(b.IPC.ID, shmDir)
	case b.Container.Host.IpcMode == "shareable":
		return r.file(b.Container.ID, shmDir)
	}
	return ""
}

// makeShm mounts it, in a bundle that has just been made.
func (r *Runtime) makeShm(b moss.Bundle) error {
	if b.Shm == "" || b.IPC.PID != 0 {
		return nil
	}
	if err := os.Mkdir(b.Shm, 0o700); err != nil {
		return fmt.Errorf("cannot make the shared /dev/shm: %w", err)
	}
	size := b.Container.Host.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	if err := unix.Mount("shm", b.Shm, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, withContext(fmt.Sprintf("mode=1777,size=%d", size), b.Container.SELinux.Mount)); err != nil {
		return fmt.Errorf("cannot mount the shared /dev/shm: %w", err)
	}
	return nil
}

// withContext adds the SELinux label of all files to a mount's options.
func withContext(options, label string) string {
	if label == "" {
		return options
	}
	return options + fmt.Sprintf(",context=%q", label)
}

// clear removes a bundle, and what is mounted in it before.
func (r *Runtime) clear(id moss.ContainerID) error {
	shm := r.file(id, shmDir)
	if _, err := os.Lstat(shm); err == nil {
		// EINVAL: nothing is mounted there.
		if err := unix.Unmount(shm, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("cannot unmount the shared /dev/shm: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(r.bundle(id))
}
