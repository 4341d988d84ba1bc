package storage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// probes are the directories in which it is tried out what overlays can do
// here: ours, and the library's (drivers/overlay/check.go). The rest are files of
// the library's that have yet to get their name (pkg/ioutils/fswriters.go).
var probes = []string{
	".probe-*", "overlay/compat*", "overlay/metacopy-check*", "overlay/opaque-bug-check*", "overlay/volatile-check*",
	"*-layers/.tmp-*", "*-images/.tmp-*", "*-containers/.tmp-*",
}

// probed are the directories of images and of containers, in which there may be such files too.
var probed = []string{"*-images/*", "*-containers/*"}

// sweepProbes removes the probes and the unfinished files of a process that was
// killed, whose mounts stay in the namespace that all of them share. Layers that were being
// deleted are unmounted; the library deletes them. stamp is a file that tells when
// it was last done: of what has not changed since, there may be a thousand.
func sweepProbes(root, stamp string) error {
	begun := time.Now()
	errs := []error{unmountBelow(filepath.Join(root, "overlay", "tempdirs"))}
	patterns := slices.Clone(probes)
	last := lastSwept(stamp, begun)
	for _, pattern := range probed {
		dirs, err := filepath.Glob(filepath.Join(root, pattern))
		errs = append(errs, err)
		for _, dir := range dirs {
			if st, err := os.Stat(dir); err == nil && st.IsDir() && !st.ModTime().Before(last) {
				patterns = append(patterns, filepath.Join(strings.TrimPrefix(dir, root), ".tmp-*"))
			}
		}
	}
	for _, pattern := range patterns {
		dirs, err := filepath.Glob(filepath.Join(root, pattern))
		errs = append(errs, err)
		for _, dir := range dirs {
			errs = append(errs, sweepProbe(dir))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return noteSwept(stamp, begun)
}

// clocksApart is more than file systems and the clock differ in the time of one change.
const clocksApart = time.Second

// lastSwept is the time of the last sweep, none where it is not known.
func lastSwept(stamp string, now time.Time) time.Time {
	st, err := os.Stat(stamp)
	if err != nil || st.ModTime().After(now) { // the clock was set back
		return time.Time{}
	}
	return st.ModTime().Add(-clocksApart)
}

func noteSwept(stamp string, begun time.Time) error {
	fresh := stamp + ".new"
	if err := os.WriteFile(fresh, nil, 0o600); err != nil {
		return err
	}
	if err := os.Chtimes(fresh, begun, begun); err != nil {
		return err
	}
	return os.Rename(fresh, stamp)
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
