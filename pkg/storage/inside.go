package storage

import (
	"cmp"
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

const (
	openTries = 128 // while the container moves what a path leads through
	maxLinks  = 255 // followed for one path, as Go's filepath does
)

// open opens what a path leads to in the container. Links, also absolute ones,
// and ".." stay inside, whatever the container does meanwhile: the kernel sees
// to it. With O_NOFOLLOW the last element may be a link.
func (v *view) open(name string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	var err error
	for range openTries {
		var fd int
		if fd, err = unix.Openat2(int(v.root.Fd()), name, &how); err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: err}
}

// dir opens a directory to work below it by single names.
func (v *view) dir(name string) (*os.File, error) {
	return v.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

// impliedMode is that of directories that nobody has told of.
const impliedMode = 0o755

// makeDirs is dir that makes what is missing.
func (v *view) makeDirs(name string) (*os.File, error) {
	d, err := v.dir(name)
	if !errors.Is(err, unix.ENOENT) || name == "/" {
		return d, err
	}
	up, err := v.makeDirs(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = up.Close() }() // only looked at
	if err := unix.Mkdirat(int(up.Fd()), path.Base(name), impliedMode); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return v.dir(name)
}

// stat tells of a path; a link at its end is not followed, but where it leads to is told.
func (v *view) stat(name string) (moss.PathStat, error) {
	f, err := v.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return moss.PathStat{}, err
	}
	defer func() { _ = f.Close() }() // only looked at
	info, err := f.Stat()
	if err != nil {
		return moss.PathStat{}, err
	}
	st := moss.PathStat{Name: path.Base(name), Size: info.Size(), Mode: info.Mode(), ModTime: info.ModTime()}
	if info.Mode()&os.ModeSymlink != 0 {
		st.LinkTarget, err = v.follow(name)
	}
	return st, err
}

// follow says where a path leads to when all links are followed, as far as
// there is something. It is told to people, and never used to open anything.
func (v *view) follow(name string) (string, error) {
	at, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		el := rest[0]
		rest = rest[1:]
		next := path.Join(at, el) // also for "", "." and ".."
		target, err := v.readlink(next)
		switch {
		case el == "" || el == "." || el == ".." || err != nil:
			at = next // no link, or nothing there
			continue
		case links > maxLinks:
			return "", moss.Errorf(moss.Invalid, "too many links in %s", name)
		}
		links++
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

func (v *view) readlink(name string) (string, error) {
	f, err := v.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only looked at
	return readlink(f, "")
}

// outerFirst sorts mounts so that none hides another's target.
func outerFirst(points []moss.MountPoint) []moss.MountPoint {
	depth := func(p moss.MountPoint) int { return strings.Count(path.Clean(p.Target), "/") }
	points = slices.Clone(points)
	slices.SortStableFunc(points, func(a, b moss.MountPoint) int { return cmp.Compare(depth(a), depth(b)) })
	return points
}

// isMountRoot says whether something is mounted on what dir has under a name.
func isMountRoot(dir int, name string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st); err != nil {
		return false, err
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// maxDepth bounds the directories that are open at a time.
const maxDepth = 1000

// removeAll removes what dir has under a name with all below it. What is a
// mount stays: the kernel would not know, for the mount is in another namespace than ours.
func removeAll(dir int, name string, depth int) error {
	mounted, err := isMountRoot(dir, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err == nil && mounted:
		err = unix.EBUSY
	case err == nil && depth > maxDepth:
		err = unix.ENAMETOOLONG
	}
	if err != nil {
		return &os.PathError{Op: "unlinkat", Path: name, Err: err}
	}
	err = unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	fd, openErr := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if openErr != nil {
		return &os.PathError{Op: "unlinkat", Path: name, Err: err}
	}
	d := os.NewFile(uintptr(fd), name)
	defer func() { _ = d.Close() }() // only read
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := removeAll(fd, n, depth+1); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "unlinkat", Path: name, Err: err}
	}
	return nil
}
