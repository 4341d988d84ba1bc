package image

import (
	"context"
	"errors"

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
// other one needs, the last first, to the reaper.
func (s *Store) deleteRecord(id moss.ImageID) (layers []string, err error) {
	// The store's own removal returns when the last file is gone. This only asks what it would remove.
	layers, err = s.store.DeleteImage(hexOf(id), false)
	if errors.Is(err, storage.ErrNotAnImage) {
		return nil, nil // it is gone behind our back
	}
	if err != nil {
		return nil, err
	}
	// First what is to go: killed from here on, the next start goes on.
	start, err := s.reaper.doom(hexOf(id), layers)
	if err != nil {
		return nil, err
	}
	defer start()
	return layers, s.store.Delete(hexOf(id))
}
