package fake

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// Images keeps images in memory. It is an engine.ImageStore and, in
// archives.go, an engine.ImageArchives.
type Images struct {
	mu     sync.Mutex
	images map[moss.ImageID]moss.Image
	rootfs *Rootfs
}

// NewImages makes an empty store. The images that come in become known to
// rootfs, with no files; it may be nil.
func NewImages(rootfs *Rootfs) *Images {
	return &Images{images: map[moss.ImageID]moss.Image{}, rootfs: rootfs}
}

// Add puts an image in as it is; its names must be normalised.
func (s *Images) Add(im moss.Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(im)
}

func (s *Images) addLocked(im moss.Image) {
	s.images[im.ID] = im
	if s.rootfs != nil {
		s.rootfs.AddImage(im.ID, nil)
	}
}

// Resolve finds an image by name, id or unique id prefix.
func (s *Images) Resolve(_ context.Context, ref string) (moss.Image, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return moss.Image{}, moss.Errorf(moss.Invalid, "%w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := parsed.String()
	if named, ok := parsed.(reference.Named); ok {
		missing = reference.FamiliarString(reference.TagNameOnly(named))
		if im, ok := s.byNameLocked(reference.TagNameOnly(named).String()); ok {
			return im, nil
		}
	}
	prefix := strings.TrimPrefix(strings.TrimPrefix(ref, "sha256:"), "@")
	var found []moss.Image
	for id, im := range s.images {
		if prefix != "" && strings.HasPrefix(strings.TrimPrefix(string(id), "sha256:"), prefix) {
			found = append(found, im)
		}
	}
	switch len(found) {
	case 0:
		return moss.Image{}, moss.Errorf(moss.NotFound, "No such image: %s", missing)
	case 1:
		return found[0], nil
	}
	return moss.Image{}, moss.Errorf(moss.Conflict, "the image id %q is ambiguous", ref)
}

func (s *Images) byNameLocked(name string) (moss.Image, bool) {
	for _, im := range s.images {
		if slices.Contains(im.Names, name) {
			return im, true
		}
	}
	return moss.Image{}, false
}

// List returns every image.
func (s *Images) List(context.Context) ([]moss.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.images), func(a, b moss.Image) int { return strings.Compare(string(a.ID), string(b.ID)) }), nil
}

func normalTag(name string) (string, error) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", moss.Errorf(moss.Invalid, "%w", err)
	}
	if _, ok := named.(reference.Digested); ok || reference.FamiliarName(named) == "sha256" {
		return "", moss.Errorf(moss.Invalid, "%q cannot be a tag", name)
	}
	return reference.TagNameOnly(named).String(), nil
}

// Tag gives an image a further name.
func (s *Images) Tag(_ context.Context, id moss.ImageID, name string) (string, error) {
	normal, err := normalTag(name)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return normal, s.tagLocked(id, normal)
}

func (s *Images) tagLocked(id moss.ImageID, normal string) error {
	if _, ok := s.images[id]; !ok {
		return moss.Errorf(moss.NotFound, "No such image: %s", id)
	}
	s.untagLocked(normal)
	im := s.images[id]
	im.Names = slices.Sorted(slices.Values(append(slices.Clip(im.Names), normal)))
	im.TaggedAt = time.Now()
	s.images[id] = im
	return nil
}

func (s *Images) untagLocked(normal string) bool {
	im, ok := s.byNameLocked(normal)
	if ok {
		im.Names = slices.DeleteFunc(slices.Clone(im.Names), func(n string) bool { return n == normal })
		s.images[im.ID] = im
	}
	return ok
}

// Untag takes one name away.
func (s *Images) Untag(_ context.Context, name string) error {
	normal, err := normalTag(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.untagLocked(normal) {
		return moss.Errorf(moss.NotFound, "No such image: %s", name)
	}
	return nil
}

// Delete removes an image that has no names left.
func (s *Images) Delete(_ context.Context, id moss.ImageID) ([]moss.ImageRemoval, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	im, ok := s.images[id]
	switch {
	case !ok:
		return nil, moss.Errorf(moss.NotFound, "No such image: %s", id)
	case len(im.Names) > 0:
		return nil, moss.Errorf(moss.Conflict, "image %s has names", id.Short())
	}
	delete(s.images, id)
	return []moss.ImageRemoval{{Deleted: id}}, nil
}
