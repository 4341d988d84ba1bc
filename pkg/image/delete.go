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
// as docker does by their chain ids, of the layers that only it used.
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
	layers, err := s.store.DeleteImage(hexOf(id), true)
	switch {
	case errors.Is(err, storage.ErrImageUsedByContainer):
		return nil, &moss.Error{Class: moss.Conflict, Op: "delete image", ID: id.Short(), Err: err}
	case err != nil && !errors.Is(err, storage.ErrNotAnImage):
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
