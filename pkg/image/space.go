package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/containers/storage"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/moss"
)

// Unused tells what Collect would free, from sizes that are kept.
func (s *Store) Unused(ctx context.Context) (bytes int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	layers, err := s.unneeded()
	if err != nil {
		return 0, moss.Wrap(err, "look for unused layers", "")
	}
	for _, l := range layers {
		bytes += l.UncompressedSize
	}
	return bytes, nil
}

// Collect removes the layers that neither an image nor a container nor a
// running transfer needs, and what interrupted writes left of images. It returns when their files are gone.
func (s *Store) Collect(ctx context.Context) (bytes int64, err error) {
	defer func() { err = moss.Wrap(err, "remove unused layers", "") }()
	if err := s.reaper.wait(ctx); err != nil {
		return 0, err
	}
	layers, err := s.unneeded()
	if err != nil {
		return 0, err
	}
	s.reserve.spend()
	defer s.reserve.keep()
	var errs []error
	for _, l := range layers {
		if err := ctx.Err(); err != nil {
			return bytes, errors.Join(append(errs, err)...)
		}
		gone, err := s.reaper.remove(l.ID)
		if gone {
			bytes += l.UncompressedSize
		}
		errs = append(errs, err)
	}
	return bytes, errors.Join(append(errs, s.store.GarbageCollect())...)
}

// unneeded lists the layers that nobody needs, children before their parents.
func (s *Store) unneeded() ([]storage.Layer, error) {
	all, err := s.store.MultiList(storage.MultiListOptions{Images: true, Layers: true, Containers: true})
	if err != nil {
		return nil, err
	}
	parent := make(map[string]string, len(all.Layers))
	for _, l := range all.Layers {
		parent[l.ID] = l.Parent
	}
	used := map[string]bool{"": true}
	mark := func(id string) {
		for ; !used[id]; id = parent[id] {
			used[id] = true
		}
	}
	for _, im := range all.Images {
		mark(im.TopLayer)
		for _, l := range im.MappedTopLayers {
			mark(l)
		}
	}
	for _, c := range all.Containers {
		mark(c.LayerID)
	}
	for _, l := range all.Layers {
		if s.holds.isHeld(l.ID) {
			mark(l.ID)
		}
	}
	slices.Reverse(all.Layers) // the store has parents before their children
	return slices.DeleteFunc(all.Layers, func(l storage.Layer) bool { return used[l.ID] }), nil
}

// abandon removes layers that were made for images that did not come to be,
// children first, unless somebody else needs them now.
func (s *Store) abandon(layers []string) error {
	var errs []error
	for _, l := range slices.Backward(layers) {
		_, err := s.reaper.remove(l)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// doomedDir is the one part of the temporary directory that outlives a process; see reaper.
const doomedDir = "doomed"

// recover removes what an earlier process did not finish. It is over before
// anything else begins; only the removal of files goes on behind.
func (s *Store) recover() error {
	if err := os.MkdirAll(s.tmp, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(s.tmp)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() != doomedDir {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.tmp, f.Name())))
		}
	}
	if err != nil {
		return err
	}
	return s.reaper.resume()
}

// dropStrays removes the layers without use that no pull will ask for: those whose id is not their chain's.
func (s *Store) dropStrays() error {
	layers, err := s.unneeded()
	if err != nil {
		return err
	}
	var ids []string
	for _, l := range layers {
		if l.ID != layer.Under(l.Parent, l.UncompressedDigest) {
			ids = append(ids, l.ID)
		}
	}
	return s.reaper.start("strays", ids)
}
