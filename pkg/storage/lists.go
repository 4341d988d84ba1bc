package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/mount"
)

// goodSuffix names the copy of a list that was read at an earlier start.
const goodSuffix = ".good"

// lists are the store's files that say which layers, images and containers
// there are. The store does not open when one is damaged, and takes an empty
// one for a reason to delete everything: so they are looked at first.
type lists struct {
	root, run, driver string
	log               *slog.Logger
	now               time.Time
	lost              []string // what was damaged, for the user
}

func (l *lists) layers() [2]string {
	dir := filepath.Join(l.root, l.driver+"-layers")
	return [2]string{filepath.Join(dir, "layers.json"), filepath.Join(dir, "volatile-layers.json")}
}

func (l *lists) images() string { return filepath.Join(l.root, l.driver+"-images", "images.json") }

func (l *lists) containers() [2]string {
	dir := filepath.Join(l.root, l.driver+"-containers")
	return [2]string{filepath.Join(dir, "containers.json"), filepath.Join(dir, "volatile-containers.json")}
}

// mounts is the list of what is mounted, and how often.
func (l *lists) mounts() string { return filepath.Join(l.run, l.driver+"-layers", "mountpoints.json") }

// mountPoint is an entry of it; ID is a layer's.
type mountPoint struct {
	ID    string `json:"id"`
	Path  string `json:"path"`
	Count int    `json:"count"`
}

func (l *lists) all() []string {
	a, c := l.layers(), l.containers()
	return []string{a[0], a[1], l.images(), c[0], c[1]}
}

// damaged says whether a list cannot be read. One that is missing is, when it was there before.
func damaged(name string) (bool, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := os.Stat(name + goodSuffix)
		return err == nil, nil
	}
	if err != nil {
		return false, err
	}
	if sameAsGood(name, b) {
		return false, nil
	}
	var list []struct{} // null too, the store's word for a list that was always empty
	return json.Unmarshal(b, &list) != nil, nil
}

// sameAsGood says whether a list is what its last good copy is, which was looked
// at when it was made: to compare takes a tenth of the time.
func sameAsGood(name string, b []byte) bool {
	if !bytes.HasPrefix(b, []byte("[")) || !bytes.HasSuffix(b, []byte("]")) {
		return false
	}
	f, err := os.Open(name + goodSuffix)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	if st, err := f.Stat(); err != nil || st.Size() != int64(len(b)) {
		return false
	}
	part := make([]byte, 32<<10)
	for len(b) > 0 {
		n, err := io.ReadFull(f, part[:min(len(part), len(b))])
		if err != nil || !bytes.Equal(part[:n], b[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// repair moves damaged lists aside and makes new ones of their last good copies
// and of what is on disk. It is called before the store is opened.
func (l *lists) repair() error {
	bad := map[string]bool{}
	for _, name := range l.all() {
		is, err := damaged(name)
		if err != nil {
			return err
		}
		if is {
			bad[name] = true
		}
	}
	if err := l.repairMounts(); err != nil || len(bad) == 0 {
		return err
	}
	images, err := l.repairImages(bad)
	if err != nil {
		return err
	}
	c := l.containers()
	containers, err := readBoth[storage.Container](c, bad)
	if err != nil {
		return err
	}
	layers, err := l.repairLayers(bad, images, containers)
	if err != nil {
		return err
	}
	if bad[c[0]] || bad[c[1]] {
		return l.repairContainers(bad, images, layers, containers)
	}
	return nil
}

// unmountHalfMade unmounts the layers that a killed process was making or removing.
// The store mounts a copy to change its owners, and once it is open it cannot
// delete a directory in which something is mounted, at no start.
func (l *lists) unmountHalfMade() error {
	home := filepath.Join(l.root, l.driver)
	dirs, err := filepath.Glob(filepath.Join(home, "tempdirs", "*", "*"))
	if err != nil {
		return err
	}
	for _, name := range l.layers() {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !bytes.Contains(b, []byte(`"incomplete"`)) { // rarely there, and the list may be long
			continue
		}
		var layers []storage.Layer
		if err := json.Unmarshal(b, &layers); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		for _, layer := range layers {
			if layer.Flags["incomplete"] == true {
				dirs = append(dirs, filepath.Join(home, layer.ID))
			}
		}
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, detach(filepath.Join(dir, "merged")))
	}
	return errors.Join(errs...)
}

// aside renames a damaged list and says so.
func (l *lists) aside(name string) error {
	to := name + ".damaged-" + l.now.UTC().Format("20060102T150405Z")
	err := os.Rename(name, to)
	if errors.Is(err, fs.ErrNotExist) {
		to, err = "", nil
	}
	l.log.Error("a list of the store is damaged and made anew", "file", name, "kept as", to, "error", err)
	return err
}

// tell notes what was found, for info.
func (l *lists) tell(format string, args ...any) {
	l.lost = append(l.lost, fmt.Sprintf(format, args...))
}

// repairMounts makes a damaged list of mounts anew: the kernel knows them.
func (l *lists) repairMounts() error {
	name := l.mounts()
	is, err := damaged(name)
	if err != nil || !is {
		return err
	}
	if err := l.aside(name); err != nil {
		return err
	}
	l.tell("the list of mounts was damaged")
	mounts, err := mount.GetMounts()
	if err != nil {
		return err
	}
	list := []mountPoint{}
	for _, m := range mounts {
		if dir, ok := strings.CutSuffix(m.Mountpoint, "/merged"); ok && filepath.Dir(dir) == filepath.Join(l.root, l.driver) {
			list = append(list, mountPoint{ID: filepath.Base(dir), Path: m.Mountpoint, Count: 1})
		}
	}
	return l.write([]string{name}, list)
}

// readBoth reads the good ones of two lists, and the copies of the bad ones.
func readBoth[T any](names [2]string, bad map[string]bool) ([]T, error) {
	var all []T
	for _, name := range names {
		some, err := readList[T](name, bad[name])
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func readList[T any](name string, bad bool) ([]T, error) {
	if bad {
		name += goodSuffix
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []T
	if err := json.Unmarshal(b, &list); err != nil {
		if bad {
			return nil, nil // nothing can be had of it
		}
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return list, nil
}

// write replaces the lists, all in the first of them.
func (l *lists) write(names []string, list any) error {
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := replace(names[0], b, true); err != nil {
		return err
	}
	for _, name := range names[1:] {
		if err := replace(name, []byte("[]"), true); err != nil {
			return err
		}
	}
	return nil
}

// keepGood copies the lists as they are, where they changed since the last copy.
func (l *lists) keepGood() error {
	var errs []error
	for _, name := range l.all() {
		now, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		was, err := os.Stat(name + goodSuffix)
		if err == nil && was.Size() == now.Size() && was.ModTime().Equal(now.ModTime()) {
			continue
		}
		b, err := os.ReadFile(name)
		if err == nil && json.Valid(b) {
			err = replace(name+goodSuffix, b, false)
		}
		if err == nil {
			err = os.Chtimes(name+goodSuffix, now.ModTime(), now.ModTime())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// replace writes a file whole or not at all.
func replace(name string, b []byte, sync bool) error {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), name)
}
