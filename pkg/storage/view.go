package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// view is a container's tree with what is mounted in it, in a mount namespace
// of its own: the root of that namespace is the container's, and nothing but
// the container's is in it. It shows the very files, so the container sees
// what is written. It stays when the container's process ends.
type view struct {
	root *os.File // without access to contents; see open
	ns   *os.File // keeps the namespace
}

// openView makes a view, by the mounts of the container's process where there
// is one, else of the root file system and the container's own mounts.
func openView(ctx context.Context, w moss.View) (*view, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if w.PID != 0 {
		v, err := onThread(func() (*view, error) { return joinView(w) })
		if err == nil || !errors.Is(err, errNotIts) {
			return v, err
		}
	}
	for {
		v, err := onThread(func() (*view, error) { return makeView(w) })
		if !errors.Is(err, errReplaced) || ctx.Err() != nil {
			return v, err
		}
	}
}

// errReplaced says that another file has taken the place of one that was to be
// mounted, as each start does with /etc/hosts: the kernel does not mount what has no name.
var errReplaced = errors.New("it was replaced meanwhile")

func (v *view) Close() {
	_ = v.root.Close() // nothing was written by it
	_ = v.ns.Close()   // takes the mounts along
}

// onThread runs fn on a thread of its own that dies afterwards, so fn may leave
// it in any namespace. The process's first thread cannot die, and is what
// /proc/self tells of: it is never used.
func onThread(fn func() (*view, error)) (v *view, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // not unlocked: the runtime ends the thread
		if unix.Gettid() == unix.Getpid() {
			v, err = onThread(fn) // on another: this one is taken meanwhile
			runtime.UnlockOSThread()
			return
		}
		v, err = fn()
	}()
	<-done
	return v, err
}

// errNotIts says that a process is not the container's any more.
var errNotIts = errors.New("the process has another root")

// systemTrees are left out of a view, as docker does: they tell of the kernel.
var systemTrees = []string{"/proc", "/sys", "/dev"}

// joinView copies the mount namespace of the container's process.
func joinView(w moss.View) (*view, error) {
	var want unix.Stat_t
	if err := unix.Stat(w.Rootfs.Path, &want); err != nil {
		return nil, &os.PathError{Op: "stat", Path: w.Rootfs.Path, Err: err}
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", w.PID))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, errNotIts
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }() // only looked at
	proc, err := os.Open("/proc/thread-self")
	if err != nil {
		return nil, err
	}
	defer func() { _ = proc.Close() }() // only read
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("setns", err)
	}
	var got unix.Stat_t
	if err := unix.Stat("/", &got); err != nil {
		return nil, &os.PathError{Op: "stat", Path: "/", Err: err}
	}
	if got.Dev != want.Dev || got.Ino != want.Ino {
		return nil, errNotIts
	}
	if err := ownNamespace(); err != nil {
		return nil, err
	}
	if err := leaveOutSystem(w.Mounts); err != nil {
		return nil, err
	}
	return keep(proc)
}

// ownNamespace gives the thread a mount namespace that nothing comes to or goes from.
func ownNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	return os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

func leaveOutSystem(points []moss.MountPoint) error {
	for _, dir := range systemTrees {
		if hasMountIn(points, dir) {
			continue
		}
		for {
			err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
				break // nothing is mounted there
			}
			if err != nil {
				return &os.PathError{Op: "unmount", Path: dir, Err: err}
			}
		}
	}
	return nil
}

func hasMountIn(points []moss.MountPoint, dir string) bool {
	for _, p := range points {
		if t := path.Clean(p.Target); t == dir || strings.HasPrefix(t, dir+"/") {
			return true
		}
	}
	return false
}

// keep makes the view of the thread's root.
func keep(proc *os.File) (*view, error) {
	fd, err := unix.Openat(int(proc.Fd()), "ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "ns/mnt", Err: err}
	}
	ns := os.NewFile(uintptr(fd), "ns/mnt")
	root, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		_ = ns.Close() // only looked at
		return nil, err
	}
	return &view{root: root, ns: ns}, nil
}

// graft is a tree to be mounted in a view.
type graft struct {
	tree   *os.File
	target string
	dir    bool
}

// makeView puts a view together for a container without a process. What only a
// process would have, such as a tmpfs, is not in it.
func makeView(w moss.View) (*view, error) {
	proc, err := os.Open("/proc/thread-self")
	if err != nil {
		return nil, err
	}
	defer func() { _ = proc.Close() }() // only read
	if err := ownNamespace(); err != nil {
		return nil, err
	}
	root, err := cloneTree(w.Rootfs.Path, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }() // only looked at
	grafts, err := cloneMounts(w.Mounts)
	defer func() {
		for _, g := range grafts {
			_ = g.tree.Close() // only looked at
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := switchRoot(root, w.Rootfs.Path); err != nil {
		return nil, err
	}
	v, err := keep(proc)
	if err != nil {
		return nil, err
	}
	if err := v.plant(grafts); err != nil {
		v.Close()
		return nil, err
	}
	if w.ReadOnly {
		if err := setMount(root, 0, unix.MOUNT_ATTR_RDONLY); err != nil {
			v.Close()
			return nil, err
		}
	}
	return v, nil
}

func cloneTree(path string, flags uint) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func setMount(tree *os.File, flags uint, attr uint64) error {
	err := unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: attr})
	return os.NewSyscallError("mount_setattr", err)
}

// cloneMounts opens the sources of mounts, outer ones first. What it has opened
// before an error is returned with it.
func cloneMounts(points []moss.MountPoint) ([]graft, error) {
	var out []graft
	for _, p := range outerFirst(points) {
		if p.Type == moss.MountTmpfs || !path.IsAbs(p.Source) {
			continue
		}
		if p.CreateSource {
			if err := os.MkdirAll(p.Source, 0o755); err != nil && !errors.Is(err, unix.ENOTDIR) {
				return out, err
			}
		}
		var deep uint
		if !p.NonRecursive {
			deep = unix.AT_RECURSIVE
		}
		tree, err := cloneTree(p.Source, deep)
		if err != nil {
			return out, err
		}
		info, err := tree.Stat()
		out = append(out, graft{tree: tree, target: path.Clean(p.Target), dir: err == nil && info.IsDir()})
		if p.ReadOnlyTop {
			deep = 0
		}
		if err == nil && p.ReadOnly {
			err = setMount(tree, deep, unix.MOUNT_ATTR_RDONLY)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// switchRoot makes a tree the thread's root and drops all that was.
func switchRoot(root *os.File, over string) error {
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, over, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: over, Err: err}
	}
	if err := unix.Fchdir(int(root.Fd())); err != nil {
		return &os.PathError{Op: "chdir", Path: over, Err: err}
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	// The old root is on top now.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	return os.NewSyscallError("chdir", unix.Chdir("/"))
}

// plant mounts trees; the thread is in the view's namespace. Where one is to be
// mounted is made if it is missing, as the start of the container would.
func (v *view) plant(grafts []graft) error {
	for _, g := range grafts {
		err := v.graft(g)
		for range plantTries {
			if errors.Is(err, errReplaced) || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EEXIST) {
				break
			}
			err = v.graft(g) // the place went, or came, in between: others work in the same tree
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// plantTries is how often a place to mount at that changes meanwhile is looked up again.
const plantTries = 3

func (v *view) graft(g graft) error {
	at, err := v.mountPoint(g)
	if err != nil {
		return err
	}
	err = unix.MoveMount(int(g.tree.Fd()), "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	_ = at.Close() // only looked at
	if err == nil {
		return nil
	}
	if st, statErr := g.tree.Stat(); errors.Is(err, unix.ENOENT) && statErr == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink == 0 {
			return fmt.Errorf("cannot mount %s: %w", g.target, errReplaced)
		}
	}
	return &os.PathError{Op: "move_mount", Path: g.target, Err: err}
}

func (v *view) mountPoint(g graft) (*os.File, error) {
	at, err := v.open(g.target, unix.O_PATH)
	if !errors.Is(err, unix.ENOENT) {
		return at, err
	}
	if g.dir {
		return v.makeDirs(g.target)
	}
	up, err := v.makeDirs(path.Dir(g.target))
	if err != nil {
		return nil, err
	}
	defer func() { _ = up.Close() }() // only looked at
	fd, err := unix.Openat(int(up.Fd()), path.Base(g.target), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: g.target, Err: err}
	}
	if err := unix.Close(fd); err != nil {
		return nil, err
	}
	return v.open(g.target, unix.O_PATH)
}
