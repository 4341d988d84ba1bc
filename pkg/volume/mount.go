package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// mountable are the file systems that the kernel lets a user namespace mount.
var mountable = []string{"none", "bind", "tmpfs", "ramfs", "overlay"}

// checkOptions judges the local driver's options.
func checkOptions(o map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(o)) {
		switch k {
		case "type", "o", "device":
		case "size":
			return moss.Errorf(moss.NotImplemented, "the option size needs quotas, which a user may not set: use type=tmpfs with o=size=…")
		default:
			return moss.Errorf(moss.Invalid, "invalid option: %q", k)
		}
	}
	for _, need := range [][2]string{{"device", "type"}, {"type", "device"}, {"o", "device"}, {"o", "type"}} {
		if o[need[0]] != "" && o[need[1]] == "" {
			return moss.Errorf(moss.Invalid, "missing required option: %q", need[1])
		}
	}
	kind := o["type"]
	switch {
	case kind == "" || slices.Contains(mountable, kind):
	case strings.HasPrefix(kind, "nfs") || kind == "cifs":
		return moss.Errorf(moss.NotImplemented, "the kernel lets only root mount %s: have it mounted by the system (fstab, autofs), and use a bind of it", kind)
	default:
		return moss.Errorf(moss.NotImplemented, "the kernel does not let a user mount the file system %q: use one of %s", kind, strings.Join(mountable, ", "))
	}
	flags, _ := mountFlags(o["o"])
	if (kind == "none" || kind == "bind") && flags&unix.MS_BIND == 0 {
		return moss.Errorf(moss.Invalid, "the type %s says nothing without o=bind", kind)
	}
	if flags&unix.MS_BIND != 0 && !filepath.IsAbs(o["device"]) {
		return moss.Errorf(moss.Invalid, "the device %q of a bind is no absolute path", o["device"])
	}
	return nil
}

// mounts says whether a volume's options mount something.
func mounts(v moss.Volume) bool { return v.Options["type"] != "" && !remote(v) }

var flagWords = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME,
	// What is mounted below comes along: a user may not uncover what it hides.
	"bind": unix.MS_BIND | unix.MS_REC, "rbind": unix.MS_BIND | unix.MS_REC,
	"rw": 0, "defaults": 0, "": 0,
}

// mountFlags tells the words of mount(8) from the file system's own options.
func mountFlags(o string) (flags uintptr, data string) {
	var rest []string
	for w := range strings.SplitSeq(o, ",") {
		f, ok := flagWords[w]
		if !ok {
			rest = append(rest, w)
		}
		flags |= f
	}
	return flags, strings.Join(rest, ",")
}

// Mount puts in place what a volume's options ask for, or what its plugin has for
// the container; nil when it is there, or when nothing is asked for.
func (s *Store) Mount(ctx context.Context, name string, id moss.ContainerID) error {
	v, err := s.Get(name)
	if err != nil || !remote(v) && !mounts(v) {
		return err
	}
	done, err := s.begin(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if remote(v) {
		return s.hold(ctx, v, id)
	}
	on, err := mountinfo.Mounted(v.Path)
	if err != nil || on {
		return moss.Wrap(err, "mount the volume", name)
	}
	return moss.Wrap(mount(v), "mount the volume", name)
}

func mount(v moss.Volume) error {
	kind, device := v.Options["type"], v.Options["device"]
	flags, data := mountFlags(v.Options["o"])
	if flags&unix.MS_BIND != 0 {
		if err := unix.Mount(device, v.Path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("failed to mount local volume: mount %s:%s: %w", device, v.Path, err)
		}
		var attr unix.MountAttr
		for flag, set := range map[uintptr]uint64{unix.MS_RDONLY: unix.MOUNT_ATTR_RDONLY, unix.MS_NOSUID: unix.MOUNT_ATTR_NOSUID, unix.MS_NODEV: unix.MOUNT_ATTR_NODEV, unix.MS_NOEXEC: unix.MOUNT_ATTR_NOEXEC} {
			if flags&flag != 0 {
				attr.Attr_set |= set
			}
		}
		if attr.Attr_set == 0 {
			return nil
		}
		if err := unix.MountSetattr(unix.AT_FDCWD, v.Path, unix.AT_RECURSIVE, &attr); err != nil {
			return errors.Join(os.NewSyscallError("mount_setattr", err), unix.Unmount(v.Path, unix.MNT_DETACH))
		}
		return nil
	}
	if err := unix.Mount(device, v.Path, kind, flags, data); err != nil {
		return fmt.Errorf("failed to mount local volume: mount %s:%s, data: %s: %w", device, v.Path, data, err)
	}
	return nil
}

// Unmount takes away what Mount has put in place; nil when there is nothing. What
// options ask for goes for all containers, what a plugin has for the one alone.
func (s *Store) Unmount(ctx context.Context, name string, id moss.ContainerID) error {
	v, err := s.Get(name)
	if err != nil || !remote(v) && !mounts(v) {
		return nil // a volume that is gone is not mounted
	}
	if _, held := s.getHold(name, id); remote(v) && !held {
		return nil
	}
	done, err := s.begin(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	if remote(v) {
		return s.letGo(ctx, v, id)
	}
	return moss.Wrap(s.unmount(name), "unmount the volume", name)
}

func (s *Store) unmount(name string) error {
	for {
		err := unix.Unmount(s.path(name, dataDir), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // nothing is mounted there
		case err != nil:
			return os.NewSyscallError("umount", err)
		}
	}
}

// Expose gives the mounts of a container as binds. A part of a volume or an image is opened
// by the kernel's own care, so that no link leads out of the volume, and pinned
// by a mount of its own until Conceal.
func (s *Store) Expose(ctx context.Context, id moss.ContainerID, points []moss.MountPoint) ([]moss.MountPoint, error) {
	out := slices.Clone(points)
	for i := range out {
		p := &out[i]
		if p.Type != moss.MountVolume && p.Type != moss.MountImage {
			continue
		}
		p.Type, p.CreateSource = moss.MountBind, false
		if point := s.point(p.Name, id); point != "" {
			p.Source = point
		}
		if p.SubPath == "" {
			continue
		}
		pinned, err := s.pin(id, i, points[i])
		if err != nil {
			return nil, moss.Wrap(errors.Join(err, s.Conceal(ctx, id)), "mount a part of the "+string(points[i].Type), p.Name)
		}
		p.Source = pinned
	}
	return out, nil
}

func (s *Store) pin(id moss.ContainerID, n int, p moss.MountPoint) (string, error) {
	sub, err := openBelow(p.Source, p.SubPath, unix.O_PATH, unix.RESOLVE_BENEATH)
	if errors.Is(err, fs.ErrNotExist) {
		return "", moss.Errorf(moss.Invalid, "cannot access path %s: no such file or directory", filepath.Join(p.Source, p.SubPath))
	}
	if errors.Is(err, unix.EXDEV) {
		return "", moss.Errorf(moss.Invalid, "the path %s leads out of the %s", p.SubPath, p.Type)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = sub.Close() }() // only looked at
	tree, err := unix.OpenTree(int(sub.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return "", os.NewSyscallError("open_tree", err)
	}
	defer func() { _ = unix.Close(tree) }() // it is mounted, or not
	info, err := os.Stat("/proc/self/fd/" + strconv.Itoa(int(sub.Fd())))
	if err != nil {
		return "", err
	}
	at := filepath.Join(s.o.RunDir, string(id), strconv.Itoa(n))
	if err := s.mountPoint(at, info.IsDir()); err != nil {
		return "", err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return "", os.NewSyscallError("move_mount", err)
	}
	return at, nil
}

func (s *Store) mountPoint(at string, dir bool) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	if err := detach(at); err != nil { // of an earlier try
		return err
	}
	if dir {
		return os.Mkdir(at, 0o700)
	}
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// detach unmounts and removes a mount point. It deletes nothing but that.
func detach(at string) error {
	for {
		err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return os.NewSyscallError("umount", err)
		}
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Conceal undoes Expose; nil when nothing is left.
func (s *Store) Conceal(_ context.Context, id moss.ContainerID) error {
	dir := filepath.Join(s.o.RunDir, string(id))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return moss.Wrap(err, "unmount the volumes of", id.Short())
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, detach(filepath.Join(dir, e.Name())))
	}
	errs = append(errs, os.Remove(dir))
	return moss.Wrap(errors.Join(errs...), "unmount the volumes of", id.Short())
}
