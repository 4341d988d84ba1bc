package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containers/storage/pkg/idtools"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// CreateMapped makes the writable layer of a container that has a user namespace
// of its own. The kernel lets only root map the ids of a mount of a disk, so the
// store makes a copy of the image whose files belong to the ids that they are by
// the maps, once for each image and maps, and keeps it as long as the image.
func (s *Storage) CreateMapped(ctx context.Context, id moss.ContainerID, image moss.ImageID, maps moss.IDMaps, volatile bool) error {
	if _, ok := moss.ToEngine(maps.UIDs, 0); !ok {
		return moss.Errorf(moss.Invalid, "the container's user namespace has no root")
	}
	if err := s.checkOwners(image, maps); err != nil {
		return err
	}
	return s.create(ctx, id, image, &maps, volatile)
}

// checkOwners looks for ids in the image that the maps do not have: the store
// would give such files to nobody.
func (s *Storage) checkOwners(image moss.ImageID, maps moss.IDMaps) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	im, err := s.store.Image(strings.TrimPrefix(string(image), "sha256:"))
	if err != nil {
		return nil // the store says it better
	}
	for id := im.TopLayer; id != ""; {
		l, err := s.store.Layer(id)
		if err != nil {
			return nil
		}
		for _, of := range []struct {
			what string
			ids  []uint32
			m    []moss.IDMap
		}{{"user", l.UIDs, maps.UIDs}, {"group", l.GIDs, maps.GIDs}} {
			for _, n := range of.ids {
				if _, ok := moss.ToEngine(of.m, n); !ok {
					return moss.Errorf(moss.Invalid, "the image has files of the %s %d, which the container's user namespace does not have: use a larger one, auto:size=%d for example", of.what, n, n+1)
				}
			}
		}
		id = l.Parent
	}
	return nil
}

func storeMap(in []moss.IDMap) (out []idtools.IDMap) {
	for _, m := range in {
		out = append(out, idtools.IDMap{ContainerID: int(m.Container), HostID: int(m.Engine), Size: int(m.Size)})
	}
	return out
}

// withMapped adds to a copy's own directory, which is empty, those below it that
// the store has turned it into: diff1, diff2, ….
func withMapped(lowers []string) (all []string) {
	for _, dir := range lowers {
		all = append(all, dir)
		for n := 1; ; n++ {
			more := dir + strconv.Itoa(n)
			if _, err := os.Lstat(more); err != nil {
				break
			}
			all = append(all, more)
		}
	}
	return all
}

// shift translates ids of a container in a user namespace of its own. The zero
// value is that of all the others, who have the engine's.
type shift struct{ uids, gids []moss.IDMap }

// overflow is what the kernel makes of an id that a map does not have.
const overflow = 65534

func (s shift) out(uid, gid int) (int, int) {
	return outOf(s.uids, uid), outOf(s.gids, gid)
}

func outOf(m []moss.IDMap, id int) int {
	if m == nil {
		return id
	}
	if n, ok := moss.ToContainer(m, uint32(id)); ok { //nolint:gosec // of a file
		return int(n)
	}
	return overflow
}

var errNoID = errors.New("the container's user namespace has no such id")

func (s shift) in(uid, gid int) (int, int, error) {
	if s.uids == nil {
		return uid, gid, nil
	}
	u, ok := moss.ToEngine(s.uids, uint32(uid))     //nolint:gosec // of a tar, which has no others
	g, alsoOK := moss.ToEngine(s.gids, uint32(gid)) //nolint:gosec // as above
	if !ok || !alsoOK {
		return 0, 0, errNoID
	}
	return int(u), int(g), nil
}

// shiftOf finds the maps of a container; none where it has none, or is not there.
func (s *Storage) shiftOf(id moss.ContainerID) shift {
	s.turn.Lock()
	defer s.turn.Unlock()
	return s.shiftOfLocked(id)
}

func (s *Storage) shiftOfLocked(id moss.ContainerID) shift {
	c, err := s.store.Container(string(id))
	if err != nil || len(c.UIDMap) == 0 {
		return shift{}
	}
	back := func(in []idtools.IDMap) (out []moss.IDMap) {
		for _, m := range in {
			out = append(out, moss.IDMap{Container: uint32(m.ContainerID), Engine: uint32(m.HostID), Size: uint32(m.Size)}) //nolint:gosec // as given
		}
		return slices.Clip(out)
	}
	return shift{back(c.UIDMap), back(c.GIDMap)}
}

// shownDir is where root file systems are shown to containers whose ids do not
// reach the store: it is in the home of the user, who is not in their user
// namespace, so to them it is a stranger's. A directory that everybody can pass
// is not to be had below it. In the engine's mount namespace the home of the
// machine's root can be one, with a tmpfs over it: no user has anything there.
const shownDir = "/root"

// reaches says whether ids of a container can pass the user's own directories.
func (s shift) reaches() bool {
	_, uid := moss.ToContainer(s.uids, 0)
	_, gid := moss.ToContainer(s.gids, 0)
	return s.uids == nil || uid && gid
}

// show gives the root file system at dir a path that its container can pass.
func show(id moss.ContainerID, dir string) (string, error) {
	if err := mountShownDir(); err != nil {
		return "", fmt.Errorf("cannot show it to the ids of its user namespace, which cannot pass the user's home: %w", err)
	}
	at := filepath.Join(shownDir, string(id))
	if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // to be passed
		return "", err
	}
	on, err := mountinfo.Mounted(at)
	if err != nil || on {
		return at, err
	}
	return at, os.NewSyscallError("mount", unix.Mount(dir, at, "", unix.MS_BIND, ""))
}

// shownName is the source of the tmpfs, by which it is known again.
const shownName = "moss-shown"

func mountShownDir() error {
	if ours, err := shownIsOurs(); err != nil || ours {
		return err
	}
	if unix.Access(shownDir, unix.X_OK) == nil {
		return fmt.Errorf("the user can look into %s, which would be hidden: chmod 700 %[1]s", shownDir)
	}
	return os.NewSyscallError("mount", unix.Mount(shownName, shownDir, "tmpfs", unix.MS_NODEV, "mode=0755,size=1m"))
}

func shownIsOurs() (bool, error) {
	have, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(shownDir))
	return len(have) > 0 && have[len(have)-1].Source == shownName, err
}

// hide undoes show; nil where there is nothing.
func hide(id moss.ContainerID) error {
	at := filepath.Join(shownDir, string(id))
	for {
		err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case errors.Is(err, unix.EINTR), err == nil:
			continue // there may be another below
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EACCES):
			return nil // nothing was ever shown
		case !errors.Is(err, unix.EINVAL):
			return &os.PathError{Op: "umount", Path: at, Err: err}
		}
		break
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if ours, err := shownIsOurs(); err != nil || !ours {
		return err
	}
	if err := unix.Unmount(shownDir, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EBUSY) { // another is shown
		return &os.PathError{Op: "umount", Path: shownDir, Err: err}
	}
	return nil
}
