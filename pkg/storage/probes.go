package storage

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// probes are the directories in which it is tried out what overlays can do
// here: ours, and the library's (drivers/overlay/check.go). The rest are files of
// the library's that have yet to get their name (pkg/ioutils/fswriters.go).
var probes = []string{
	".probe-*", "overlay/compat*", "overlay/metacopy-check*", "overlay/opaque-bug-check*", "overlay/volatile-check*",
	"*-layers/.tmp-*", "*-images/.tmp-*", "*-images/*/.tmp-*", "*-containers/.tmp-*", "*-containers/*/.tmp-*",
}

// sweepProbes removes the probes and the unfinished files of a process that was
// killed, whose mounts stay in the namespace that all of them share. Layers that were being
// deleted are unmounted; the library deletes them.
func sweepProbes(root string) error {
	errs := []error{unmountBelow(filepath.Join(root, "overlay", "tempdirs"))}
	for _, pattern := range probes {
		dirs, err := filepath.Glob(filepath.Join(root, pattern))
		errs = append(errs, err)
		for _, dir := range dirs {
			errs = append(errs, sweepProbe(dir))
		}
	}
	return errors.Join(errs...)
}

func sweepProbe(dir string) error {
	return errors.Join(unmountBelow(dir), os.RemoveAll(dir))
}

func unmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range mounts {
		errs = append(errs, unix.Unmount(m.Mountpoint, unix.MNT_DETACH))
	}
	return errors.Join(errs...)
}
