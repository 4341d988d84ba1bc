package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/archive"

	"github.com/moss-containers/moss/pkg/moss"
)

// report is what the check at the start found.
type report struct {
	at    time.Time
	found []string
}

func (r report) String() string {
	found := "no damage"
	if len(r.found) > 0 {
		found = strings.Join(r.found, "; ")
	}
	return r.at.UTC().Format(time.RFC3339) + ": " + found
}

// check sees that what the lists name is on disk and, for the layers made since
// a time that may not have reached the disk, that it is what it was. Images of
// damaged layers are removed, as a pull brings them again; containers are not, as
// long as a file of theirs is left.
func (s *Storage) check(ctx context.Context, since time.Time) ([]string, error) {
	all, err := s.store.MultiList(storage.MultiListOptions{Layers: true, Images: true, Containers: true})
	if err != nil {
		return nil, err
	}
	bad := map[string]error{}
	known := map[string]string{}
	for _, l := range all.Layers {
		known[l.ID] = l.Parent
		if err := s.checkLayer(l); err != nil {
			bad[l.ID] = err
		} else if !since.IsZero() && !l.Created.Before(since) {
			if err := s.checkContent(ctx, l); ctx.Err() != nil {
				return nil, ctx.Err()
			} else if err != nil {
				bad[l.ID] = err
			}
		}
	}
	cause := func(top string) error {
		for id := top; id != ""; id = known[id] {
			if _, ok := known[id]; !ok {
				return fmt.Errorf("layer %.12s is missing", id)
			}
			if bad[id] != nil {
				return bad[id]
			}
		}
		return nil
	}
	found := s.removeDamaged(all, cause)
	for _, c := range all.Containers {
		_, there := known[c.LayerID]
		if err := cause(c.LayerID); err != nil && (!there || bad[c.LayerID] != nil) {
			// Nothing is left of it: it was being removed.
			if err := s.store.DeleteContainer(c.ID); err != nil {
				return nil, err
			}
			s.log.InfoContext(ctx, "a container of which no file was left is removed", "container", c.ID, "cause", err)
		} else if err != nil {
			found = append(found, fmt.Sprintf("container %.12s is damaged: %v; it can only be removed", c.ID, err))
		}
	}
	return found, nil
}

// removeDamaged removes the images and the layers for which there is a cause,
// unless a container stands on them.
func (s *Storage) removeDamaged(all storage.MultiListResult, cause func(string) error) (found []string) {
	for _, im := range all.Images {
		err := cause(im.TopLayer)
		if err == nil {
			continue
		}
		name := im.ID[:min(12, len(im.ID))]
		if len(im.Names) > 0 {
			name = im.Names[0]
		}
		what := "is removed"
		if s.Holds(moss.ImageID(im.ID)) {
			what = "stays: a container stands on it"
		} else if _, delErr := s.store.DeleteImage(im.ID, true); delErr != nil {
			what = "stays: " + delErr.Error()
		}
		found = append(found, fmt.Sprintf("image %s is damaged and %s: %v", name, what, err))
	}
	own := map[string]bool{}
	for _, c := range all.Containers {
		own[c.LayerID] = true
	}
	for _, l := range slices.Backward(all.Layers) { // children come after their parents
		err := cause(l.ID)
		if err == nil || own[l.ID] {
			continue
		}
		if delErr := s.store.DeleteLayer(l.ID); delErr == nil {
			found = append(found, fmt.Sprintf("layer %.12s is damaged and is removed: %v", l.ID, err))
		}
	}
	return found
}

// checkLayer looks for a layer's directory and for what its tar is made of.
func (s *Storage) checkLayer(l storage.Layer) error {
	dir := filepath.Join(s.store.GraphRoot(), s.choice.driver, l.ID, "diff")
	if s.choice.driver == driverVFS {
		dir = filepath.Join(s.store.GraphRoot(), driverVFS, "dir", l.ID)
	}
	if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
		return fmt.Errorf("layer %.12s has no files", l.ID)
	}
	if l.UncompressedDigest == "" { // a container's
		return nil
	}
	split, err := os.Lstat(s.tarSplit(l.ID))
	if err == nil && split.Size() == 0 {
		return fmt.Errorf("layer %.12s has no archive headers", l.ID)
	}
	return nil
}

func (s *Storage) tarSplit(layer string) string {
	return filepath.Join(s.store.GraphRoot(), s.choice.driver+"-layers", layer+".tar-split.gz")
}

// checkContent makes a layer's tar again and compares its digest.
func (s *Storage) checkContent(ctx context.Context, l storage.Layer) error {
	if l.UncompressedDigest == "" {
		return nil
	}
	if _, err := os.Lstat(s.tarSplit(l.ID)); err != nil {
		return nil //nolint:nilerr // made anew from its files it would be another tar
	}
	plain := archive.Uncompressed
	r, err := s.store.Diff("", l.ID, &storage.DiffOptions{Compression: &plain})
	if err != nil {
		return fmt.Errorf("layer %.12s cannot be read: %w", l.ID, err)
	}
	v := l.UncompressedDigest.Verifier()
	_, err = io.Copy(v, readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(b)
	}))
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("layer %.12s cannot be read: %w", l.ID, err)
	}
	if !v.Verified() {
		return fmt.Errorf("layer %.12s is not what it was", l.ID)
	}
	return nil
}

// pruneLinks removes the short names of layers that are not there, which the
// store leaves when it is killed between two steps of making one.
func (s *Storage) pruneLinks() error {
	if s.choice.driver != driverOverlay {
		return nil
	}
	dir := filepath.Join(s.store.GraphRoot(), driverOverlay, "l")
	links, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	layers, layersErr := s.store.Layers()
	if err == nil && layersErr == nil && len(links) <= len(layers) { // one each
		return nil
	}
	var errs []error
	for _, l := range links {
		name := filepath.Join(dir, l.Name())
		if _, err := os.Stat(filepath.Dir(followed(name))); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(name))
		}
	}
	return errors.Join(append(errs, err)...)
}

// followed is where a link leads, the link itself when it is none.
func followed(name string) string {
	to, err := os.Readlink(name)
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(name), to)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
