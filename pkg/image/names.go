package image

import (
	"context"
	"slices"
	"strings"

	"github.com/containers/image/v5/manifest"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// Resolve finds an image as docker does: by name, with "latest" for a missing
// tag and the digest alone where there is one, then by id or a unique prefix of it.
func (s *Store) Resolve(_ context.Context, ref string) (moss.Image, error) {
	any, err := reference.ParseAnyReference(ref)
	if err != nil {
		return moss.Image{}, moss.Errorf(moss.Invalid, "%w", err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	named, ok := any.(reference.Named)
	if !ok {
		id := any.String()
		if d, ok := any.(reference.Digested); ok {
			id = d.Digest().String()
		}
		if im, ok := s.images[moss.ImageID(id)]; ok {
			return im, nil
		}
		return moss.Image{}, notFound(id)
	}
	if im, ok := s.byNameLocked(named); ok {
		return im, nil
	}
	im, found, err := s.byPrefixLocked(ref)
	if err != nil || found {
		return im, err
	}
	return moss.Image{}, notFound(reference.FamiliarString(reference.TagNameOnly(named)))
}

func (s *Store) byNameLocked(named reference.Named) (moss.Image, bool) {
	if d, ok := named.(reference.Digested); ok {
		repo := reference.TrimNamed(named).Name()
		if id, ok := s.names[repo+"@"+d.Digest().String()]; ok {
			return s.images[id], true
		}
		// One that was loaded under this repository has the manifest's digest, and no name with it.
		for _, im := range s.images {
			if im.Digest == d.Digest().String() && slices.ContainsFunc(im.Names, func(n string) bool { return strings.HasPrefix(n, repo+":") }) {
				return im, true
			}
		}
		return moss.Image{}, false
	}
	id, ok := s.names[reference.TagNameOnly(named).String()]
	return s.images[id], ok
}

func (s *Store) byPrefixLocked(ref string) (moss.Image, bool, error) {
	prefix := strings.TrimPrefix(ref, "sha256:")
	if prefix == "" || strings.Trim(prefix, "0123456789abcdef") != "" {
		return moss.Image{}, false, nil
	}
	var found []moss.Image
	for id, im := range s.images {
		if strings.HasPrefix(hexOf(id), prefix) {
			found = append(found, im)
		}
	}
	switch len(found) {
	case 0:
		return moss.Image{}, false, nil
	case 1:
		return found[0], true, nil
	}
	return moss.Image{}, false, moss.Errorf(moss.Conflict, "the image id %q is ambiguous: %d images begin with it", ref, len(found))
}

func notFound(ref string) error { return moss.Errorf(moss.NotFound, "No such image: %s", ref) }

// normalTag reads a name that an image is to be given.
func normalTag(name string) (string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", moss.Errorf(moss.Invalid, "image name %q: %w", name, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return "", moss.Errorf(moss.Invalid, "refusing to create a tag with a digest reference")
	}
	if reference.FamiliarName(named) == string(digest.Canonical) {
		return "", moss.Errorf(moss.Invalid, "refusing to create an ambiguous tag using digest algorithm as name")
	}
	return reference.TagNameOnly(named).String(), nil
}

func familiar(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(named)
	}
	return name
}

// Tag gives an image a further name, taking it from the image that had it.
func (s *Store) Tag(ctx context.Context, id moss.ImageID, name string) (string, error) {
	normal, err := normalTag(name)
	if err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", moss.Wrap(err, "tag image", id.Short())
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	_, err = s.nameLocked(id, normal)
	return normal, err
}

// nameLocked does it for a normalised name, and tells which other image had it; s.naming is held.
func (s *Store) nameLocked(id moss.ImageID, normal string) (had moss.ImageID, err error) {
	im, ok := s.get(id)
	if !ok {
		return "", notFound(string(id))
	}
	if err := s.store.AddNames(hexOf(id), []string{normal}); err != nil {
		return "", moss.Wrap(err, "tag image", id.Short())
	}
	im.TaggedAt = now()
	if stamp, err := im.TaggedAt.MarshalText(); err == nil {
		if err := s.store.SetImageBigData(hexOf(id), taggedKey, stamp, manifest.Digest); err != nil {
			s.log.Warn("the time of a tag is lost", "image", id.Short(), "error", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.names[normal]; old != id && old != "" {
		had = old
		s.dropNameLocked(old, normal)
	}
	if !slices.Contains(im.Names, normal) {
		im.Names = append(slices.Clip(im.Names), normal)
		slices.Sort(im.Names)
	}
	s.putLocked(im)
	return had, nil
}

// Untag takes one name away.
func (s *Store) Untag(_ context.Context, name string) error {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return moss.Errorf(moss.Invalid, "image name %q: %w", name, err)
	}
	normal := reference.TagNameOnly(named).String()
	s.naming.Lock()
	defer s.naming.Unlock()
	s.mu.RLock()
	id, ok := s.names[normal]
	s.mu.RUnlock()
	if !ok {
		return notFound(familiar(normal))
	}
	s.reserve.spend()
	if err := s.store.RemoveNames(hexOf(id), []string{normal}); err != nil {
		return moss.Wrap(err, "untag image", familiar(normal))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropNameLocked(id, normal)
	return nil
}

func (s *Store) dropNameLocked(id moss.ImageID, name string) {
	delete(s.names, name)
	im := s.images[id]
	other := func(list []string) (kept []string) {
		for _, n := range list {
			if n != name {
				kept = append(kept, n)
			}
		}
		return kept
	}
	im.Names, im.Digests = other(im.Names), other(im.Digests)
	s.images[id] = im
}
