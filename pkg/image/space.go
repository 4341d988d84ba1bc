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

// Usage tells what Collect would free, from sizes that are kept, and what the
// copies of each image take that were made for containers with user namespaces of
// their own, and that a container has.
func (s *Store) Usage(ctx context.Context) (unused int64, copies map[moss.ImageID]int64, err error) {
	const op = "look for unused layers"
	if err := ctx.Err(); err != nil {
		return 0, nil, moss.Wrap(err, op, "")
	}
	all, err := s.all()
	if err != nil {
		return 0, nil, moss.Wrap(err, op, "")
	}
	spare := make(map[string]bool)
	for _, l := range s.unneeded(all, false) {
		spare[l] = true
		unused += all.size(l)
	}
	copies = make(map[moss.ImageID]int64)
	for copied, im := range all.copies {
		if _, there := all.layers[copied]; there && !spare[copied] {
			copies[moss.ImageID("sha256:"+im.ID)] += all.size(copied)
		}
	}
	return unused, copies, nil
}

// Collect removes the layers that neither an image nor a container nor a
// running transfer needs, copies of images for user namespaces that no container
// has among them, and what interrupted writes left of images. It returns when their files are gone.
func (s *Store) Collect(ctx context.Context) (bytes int64, err error) {
	defer func() { err = moss.Wrap(err, "remove unused layers", "") }()
	if err := s.reaper.wait(ctx); err != nil {
		return 0, err
	}
	all, err := s.all()
	if err != nil {
		return 0, err
	}
	s.reserve.spend()
	defer s.reserve.keep()
	var errs []error
	for _, l := range s.unneeded(all, false) {
		if err := ctx.Err(); err != nil {
			return bytes, errors.Join(append(errs, err)...)
		}
		gone, err := s.reaper.remove(l)
		if gone {
			bytes += all.size(l)
		}
		errs = append(errs, err)
	}
	return bytes, errors.Join(append(errs, s.store.GarbageCollect())...)
}

// inventory is what there is in the store at a moment.
type inventory struct {
	storage.MultiListResult
	layers map[string]*storage.Layer
	copies map[string]*storage.Image // by the layer
}

func (s *Store) all() (inventory, error) {
	list, err := s.store.MultiList(storage.MultiListOptions{Images: true, Layers: true, Containers: true})
	if err != nil {
		return inventory{}, err
	}
	all := inventory{list, make(map[string]*storage.Layer, len(list.Layers)), make(map[string]*storage.Image)}
	for i := range list.Layers {
		all.layers[list.Layers[i].ID] = &list.Layers[i]
	}
	for i := range list.Images {
		for _, l := range list.Images[i].MappedTopLayers {
			all.copies[l] = &list.Images[i]
		}
	}
	return all, nil
}

// size is what a layer takes: a copy has the files of all the image's layers.
func (all inventory) size(id string) (bytes int64) {
	im, copied := all.copies[id]
	if !copied {
		return all.layers[id].UncompressedSize
	}
	for l := all.layers[im.TopLayer]; l != nil; l = all.layers[l.Parent] {
		bytes += max(0, l.UncompressedSize)
	}
	return bytes
}

// unneeded lists the layers that nobody needs, children before their parents.
// What an image was copied to for user namespaces is its own with copies, and
// without them only that of the containers that have it.
func (s *Store) unneeded(all inventory, copies bool) (ids []string) {
	used := map[string]bool{"": true}
	mark := func(id string) {
		for !used[id] {
			used[id] = true
			if l := all.layers[id]; l != nil {
				id = l.Parent
			}
		}
	}
	for _, im := range all.Images {
		mark(im.TopLayer)
	}
	for l := range all.copies {
		if copies {
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
	for _, l := range slices.Backward(all.Layers) { // the store has parents before their children
		if !used[l.ID] {
			ids = append(ids, l.ID)
		}
	}
	return ids
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
func (s *Store) dropStrays(all inventory) error {
	ids := slices.DeleteFunc(s.unneeded(all, true), func(id string) bool {
		l := all.layers[id]
		return id == layer.Under(l.Parent, l.UncompressedDigest)
	})
	return s.reaper.start("strays", ids)
}
