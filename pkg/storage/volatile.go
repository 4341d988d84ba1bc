package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/unshare"
	"golang.org/x/sys/unix"

	"github.com/moss-containers/moss/pkg/moss"
)

// volatiles are the writable layers that are of no use after a reboot. The store
// rewrites its lists of layers, mounts and containers nine times in such a
// layer's life; so these are not in it. What they are made of is said in the
// run-time directory, which does not outlive the boot either:
//
//	run/<id>/top      a link to <image>/<top layer>: with it the layer begins and ends
//	run/<id>/merged   where it is mounted
//	disk/<id>/diff, work
//
// Only the kernel's overlay with no option of the user's is done so. The store
// does the rest.
type volatiles struct {
	disk, run string

	mu     sync.Mutex
	layers map[moss.ContainerID]base
}

// base is what a volatile layer stands on.
type base struct{ image, top string }

func (v *volatiles) get(id moss.ContainerID) (base, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b, ok := v.layers[id]
	return b, ok
}

func (v *volatiles) put(id moss.ContainerID, b base) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.layers[id] = b
}

func (v *volatiles) drop(id moss.ContainerID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.layers, id)
}

func (v *volatiles) ids() []moss.ContainerID {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]moss.ContainerID, 0, len(v.layers))
	for id := range v.layers {
		list = append(list, id)
	}
	return list
}

func (v *volatiles) link(id moss.ContainerID) string {
	return filepath.Join(v.run, string(id), "top")
}

func (v *volatiles) merged(id moss.ContainerID) string {
	return filepath.Join(v.run, string(id), "merged")
}

func (v *volatiles) dir(id moss.ContainerID, name string) string {
	return filepath.Join(v.disk, string(id), name)
}

// load learns which there are.
func (v *volatiles) load() error {
	for _, dir := range []string{v.disk, v.run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	v.layers = make(map[moss.ContainerID]base)
	begun, err := os.ReadDir(v.run)
	for _, e := range begun {
		id := moss.ContainerID(e.Name())
		to, linkErr := os.Readlink(v.link(id))
		if image, top, ok := strings.Cut(to, "/"); ok && linkErr == nil {
			v.layers[id] = base{image, top}
		}
	}
	return err
}

// sweep throws away what was begun and not finished, and what an earlier boot has left.
func (v *volatiles) sweep(sc *scrap) error {
	var errs []error
	for _, dir := range []string{v.run, v.disk} {
		there, err := os.ReadDir(dir)
		errs = append(errs, err)
		for _, e := range there {
			if id := moss.ContainerID(e.Name()); v.layers[id] == (base{}) {
				errs = append(errs, v.unmount(id), v.scrap(sc, id), v.forget(id))
			}
		}
	}
	return errors.Join(errs...)
}

// forget removes what says that there is such a layer.
func (v *volatiles) forget(id moss.ContainerID) error {
	var errs []error
	for _, name := range []string{v.merged(id), v.link(id), filepath.Join(v.run, string(id))} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// scrap takes a layer's files away.
func (v *volatiles) scrap(sc *scrap, id moss.ContainerID) error {
	if err := sc.add(v.dir(id, "")); err != nil {
		return os.RemoveAll(v.dir(id, "")) // where nothing can be renamed: the disk is full
	}
	return nil
}

func (v *volatiles) unmount(id moss.ContainerID) error { return detach(v.merged(id)) }

// detach takes away whatever is mounted at a path.
func detach(at string) error {
	for {
		err := unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil: // there may be another below
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // nothing is mounted there
		default:
			return &os.PathError{Op: "umount", Path: at, Err: err}
		}
	}
}

// mounted says whether the layer is mounted.
func (v *volatiles) mounted(id moss.ContainerID) (bool, error) {
	var up, at unix.Stat_t
	if err := unix.Lstat(v.run, &up); err != nil {
		return false, &os.PathError{Op: "stat", Path: v.run, Err: err}
	}
	err := unix.Lstat(v.merged(id), &at)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: v.merged(id), Err: err}
	}
	return up.Dev != at.Dev, nil
}

// createVolatile makes such a layer; false where it is left to the store.
func (s *Storage) createVolatile(id moss.ContainerID, image moss.ImageID) (done bool, err error) {
	if s.choice.driver != driverOverlay || s.choice.mountProgram != "" || s.choice.mountOptions != "" {
		return false, nil
	}
	v := &s.volatile
	if _, ok := v.get(id); ok {
		return false, storage.ErrDuplicateID
	}
	im, err := s.store.Image(strings.TrimPrefix(string(image), "sha256:"))
	if err != nil {
		return false, err
	}
	b := base{im.ID, im.TopLayer}
	if _, err := s.overlayOptions(id, b); err != nil {
		s.log.Debug("a volatile layer is left to the store", "container", id.Short(), "cause", err)
		return false, nil
	}
	var root unix.Stat_t
	if err := unix.Stat(s.topDir(b), &root); err != nil {
		return false, nil //nolint:nilerr // the store says it better
	}
	if err = v.mkdirs(id, b, root); err != nil {
		if again := errors.Join(v.scrap(s.scrap, id), v.forget(id)); again != nil {
			s.log.Warn("the remains of a layer that could not be made stay until the next start", "container", id.Short(), "error", again)
		}
		return false, err
	}
	v.put(id, b)
	return true, nil
}

// topDir is the directory of the files of the layer that a volatile one stands on.
func (s *Storage) topDir(b base) string {
	return filepath.Join(s.store.GraphRoot(), driverOverlay, b.top, "diff")
}

// mkdirs makes the directories; root is the image's root, which the container's is to look like.
func (v *volatiles) mkdirs(id moss.ContainerID, b base, root unix.Stat_t) error {
	if err := os.Mkdir(filepath.Join(v.run, string(id)), 0o700); err != nil {
		return err
	}
	if err := os.Symlink(b.image+"/"+b.top, v.link(id)); err != nil {
		return err
	}
	for _, dir := range []string{v.merged(id), v.dir(id, ""), v.dir(id, "work")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	diff := v.dir(id, "diff")
	if err := os.Mkdir(diff, os.FileMode(root.Mode&0o777)); err != nil { // less the umask, as the store's
		return err
	}
	if root.Uid == 0 && root.Gid == 0 {
		return nil
	}
	return os.Chown(diff, int(root.Uid), int(root.Gid))
}

// overlayOptions are those of a layer's mount. An error says what of it the store
// has to do.
func (s *Storage) overlayOptions(id moss.ContainerID, b base) (string, error) {
	if b.top == "" {
		return "", errors.New("its image has no layers")
	}
	home := filepath.Join(s.store.GraphRoot(), driverOverlay)
	if strings.ContainsAny(home, `:,\`) {
		return "", fmt.Errorf("%s cannot stand in a mount's options", home)
	}
	// The short names of the layers, of which more fit into a page.
	link, err := os.ReadFile(filepath.Join(home, b.top, "link"))
	if err != nil {
		return "", err
	}
	lower, err := os.ReadFile(filepath.Join(home, b.top, "lower"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var o strings.Builder
	o.WriteString("lowerdir=" + home + "/l/" + string(link))
	if len(lower) > 0 {
		for l := range strings.SplitSeq(string(lower), ":") {
			o.WriteString(":" + home + "/" + l)
		}
	}
	o.WriteString(",upperdir=" + s.volatile.dir(id, "diff") + ",workdir=" + s.volatile.dir(id, "work"))
	if unshare.IsRootless() {
		o.WriteString(",userxattr")
	}
	o.WriteString(",volatile")
	if o.Len() >= os.Getpagesize() {
		return "", errors.New("it has too many layers for one mount's options")
	}
	return o.String(), nil
}

// mountVolatile mounts such a layer, unless it is.
func (s *Storage) mountVolatile(id moss.ContainerID, b base, label string) (moss.Mount, error) {
	v := &s.volatile
	m := moss.Mount{Path: v.merged(id)}
	if is, err := v.mounted(id); is || err != nil {
		return m, err
	}
	options, err := s.overlayOptions(id, b)
	if err != nil {
		return m, err
	}
	// The kernel refuses what it has mounted volatile before.
	if err := os.RemoveAll(filepath.Join(v.dir(id, "work"), "work", "incompat", "volatile")); err != nil {
		return m, err
	}
	if label != "" {
		options += fmt.Sprintf(",context=%q", label)
	}
	if err := unix.Mount("overlay", m.Path, "overlay", 0, options); err != nil {
		return m, &os.PathError{Op: "mount", Path: m.Path, Err: fmt.Errorf("overlay with %s: %w", options, err)}
	}
	return m, nil
}

// removeVolatile unmounts and deletes such a layer.
func (s *Storage) removeVolatile(id moss.ContainerID) error {
	v := &s.volatile
	if err := v.unmount(id); err != nil {
		return err
	}
	s.sizes.forget(id)
	if err := errors.Join(v.scrap(s.scrap, id), v.forget(id)); err != nil {
		return err
	}
	v.drop(id)
	return nil
}

// Holds says whether a volatile layer stands on an image: the store does not know.
func (s *Storage) Holds(image moss.ImageID) bool {
	hex := strings.TrimPrefix(string(image), "sha256:")
	s.volatile.mu.Lock()
	defer s.volatile.mu.Unlock()
	for _, b := range s.volatile.layers {
		if b.image == hex {
			return true
		}
	}
	return false
}
