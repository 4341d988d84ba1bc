package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"

	"github.com/moss-containers/moss/pkg/moss"
)

// Delete removes an image that has no names left. It tells of the image and,
// as docker does by their chain ids, of the layers that only it used. The image
// is gone when it returns, its layers' files soon after: see reaper.
func (s *Store) Delete(ctx context.Context, id moss.ImageID) ([]moss.ImageRemoval, error) {
	if err := ctx.Err(); err != nil {
		return nil, moss.Wrap(err, "delete image", id.Short())
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	return s.deleteLocked(id)
}

// deleteLocked does it; s.naming is held, so that the image is not one that is about to get names.
func (s *Store) deleteLocked(id moss.ImageID) ([]moss.ImageRemoval, error) {
	im, ok := s.get(id)
	switch {
	case !ok:
		return nil, notFound(string(id))
	case len(im.Names) > 0:
		return nil, moss.Errorf(moss.Conflict, "cannot delete image %s: it is still named %s", id.Short(), familiar(im.Names[0]))
	}
	layers, err := s.deleteRecord(id)
	switch {
	case errors.Is(err, storage.ErrImageUsedByContainer):
		return nil, &moss.Error{Class: moss.Conflict, Op: "delete image", ID: id.Short(), Err: err}
	case err != nil:
		return nil, moss.Wrap(err, "delete image", id.Short())
	}
	s.mu.Lock()
	delete(s.images, id)
	for _, n := range im.Digests {
		delete(s.names, n)
	}
	s.mu.Unlock()
	removed := []moss.ImageRemoval{{Deleted: id}}
	diffs := make([]digest.Digest, len(im.DiffIDs))
	for i, d := range im.DiffIDs {
		diffs[i] = digest.Digest(d)
	}
	for n := len(diffs); n > 0 && n > len(diffs)-len(layers); n-- {
		removed = append(removed, moss.ImageRemoval{Deleted: moss.ImageID(identity.ChainID(diffs[:n]))})
	}
	return removed, nil
}

// deleteRecord removes an image from the store and leaves the layers that no
// other one needs, the last first, to the reaper, with the copies of the last one
// for user namespaces, which nobody is told of.
func (s *Store) deleteRecord(id moss.ImageID) (layers []string, err error) {
	mapped, layers, err := s.own(hexOf(id))
	if errors.Is(err, storage.ErrNotAnImage) {
		return nil, nil // it is gone behind our back
	}
	if err != nil {
		return nil, err
	}
	s.reserve.spend()
	// First what is to go: killed from here on, the next start goes on.
	start, err := s.reaper.doom(hexOf(id), slices.Concat(mapped, layers))
	if err != nil {
		return nil, err
	}
	defer start()
	return layers, s.store.Delete(hexOf(id))
}

// own lists the layers that only this image needs, the last first, and before
// them the copies of the last one. Those that
// the reaper has not come to yet need nothing any more, which the store's own answer does not know.
func (s *Store) own(hex string) (mapped, layers []string, err error) {
	going := s.reaper.pending()
	all, err := s.store.MultiList(storage.MultiListOptions{Images: true, Layers: true, Containers: true})
	if err != nil {
		return nil, nil, err
	}
	for _, c := range all.Containers {
		if c.ImageID == hex {
			return nil, nil, fmt.Errorf("image used by %v: %w", c.ID, storage.ErrImageUsedByContainer)
		}
	}
	if s.other != nil && s.other.Holds(moss.ImageID("sha256:"+hex)) {
		return nil, nil, fmt.Errorf("image used by a container: %w", storage.ErrImageUsedByContainer)
	}
	needed := map[string]int{} // how often
	parent := map[string]string{}
	for _, l := range all.Layers {
		parent[l.ID] = l.Parent
		if !going[l.ID] {
			needed[l.Parent]++
		}
	}
	top, found := "", false
	for _, im := range all.Images {
		if im.ID == hex {
			top, found = im.TopLayer, true
			mapped = im.MappedTopLayers
			continue
		}
		for _, l := range slices.Concat(im.MappedTopLayers, []string{im.TopLayer}) {
			needed[l]++
		}
	}
	if !found {
		return nil, nil, storage.ErrNotAnImage
	}
	for _, l := range mapped {
		needed[parent[l]]--
	}
	for l := top; l != "" && needed[l] == 0; l = parent[l] {
		layers = append(layers, l)
		needed[parent[l]]--
	}
	return mapped, layers, nil
}
