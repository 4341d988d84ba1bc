package fake

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

var (
	_ engine.ImageStore    = (*Images)(nil)
	_ engine.ImageArchives = (*Images)(nil)
	_ engine.ImageSaver    = (*Images)(nil)
	_ engine.ImageMaker    = (*Images)(nil)
	_ engine.ImageSpace    = (*Images)(nil)
)

// Images keeps images in memory. It is an engine.ImageStore, and all the ports
// beside it that work on the store alone.
type Images struct {
	mu       sync.Mutex
	images   map[moss.ImageID]moss.Image
	blobs    map[string][]byte // configurations and layers, by digest
	attested map[moss.ImageID][]moss.Attestation
	stranded map[string]int64 // layers that no image needs, with their sizes
	copies   []*imageCopy
	rootfs   *Rootfs
	fail     map[string]error
}

// NewImages makes an empty store. The images that come in become known to
// rootfs, with no files; it may be nil.
func NewImages(rootfs *Rootfs) *Images {
	return &Images{images: map[moss.ImageID]moss.Image{}, blobs: map[string][]byte{}, stranded: map[string]int64{}, attested: map[moss.ImageID][]moss.Attestation{}, rootfs: rootfs, fail: map[string]error{}}
}

// Fail makes a method ("Resolve", "List", "Tag", "Untag", "Delete", "Load", "Import", "Save", "Make",
// "Attestations", "Usage", "Collect") return err until it is called with nil.
func (s *Images) Fail(method string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[method] = err
}

func (s *Images) failure(ctx context.Context, method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(ctx.Err(), s.fail[method])
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
func (s *Images) Resolve(ctx context.Context, ref string) (moss.Image, error) {
	if err := s.failure(ctx, "Resolve"); err != nil {
		return moss.Image{}, err
	}
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return moss.Image{}, moss.Errorf(moss.Invalid, "%w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := parsed.String()
	if named, ok := parsed.(reference.Named); ok {
		missing = reference.FamiliarString(reference.TagNameOnly(named))
		name := reference.TagNameOnly(named).String()
		if d, ok := named.(reference.Digested); ok {
			name = reference.TrimNamed(named).String() + "@" + d.Digest().String()
		}
		if im, ok := s.byNameLocked(name); ok {
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
		if slices.Contains(im.Names, name) || slices.Contains(im.Digests, name) {
			return im, true
		}
	}
	return moss.Image{}, false
}

// List returns every image.
func (s *Images) List(ctx context.Context) ([]moss.Image, error) {
	if err := s.failure(ctx, "List"); err != nil {
		return nil, err
	}
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
func (s *Images) Tag(ctx context.Context, id moss.ImageID, name string) (string, error) {
	if err := s.failure(ctx, "Tag"); err != nil {
		return "", err
	}
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
		other := func(n string) bool { return n == normal }
		im.Names = slices.DeleteFunc(slices.Clone(im.Names), other)
		im.Digests = slices.DeleteFunc(slices.Clone(im.Digests), other)
		s.images[im.ID] = im
	}
	return ok
}

// Untag takes one name away.
func (s *Images) Untag(ctx context.Context, name string) error {
	if err := s.failure(ctx, "Untag"); err != nil {
		return err
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return moss.Errorf(moss.Invalid, "%w", err)
	}
	normal := reference.TagNameOnly(named).String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.untagLocked(normal) {
		return moss.Errorf(moss.NotFound, "No such image: %s", name)
	}
	return nil
}

// Delete removes an image that has no names left, and tells of the layers that
// only it used, by their chain ids.
func (s *Images) Delete(ctx context.Context, id moss.ImageID) ([]moss.ImageRemoval, error) {
	if err := s.failure(ctx, "Delete"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	im, ok := s.images[id]
	switch {
	case !ok:
		return nil, moss.Errorf(moss.NotFound, "No such image: %s", id)
	case len(im.Names) > 0:
		return nil, moss.Errorf(moss.Conflict, "image %s has names", id.Short())
	}
	if s.rootfs != nil {
		if err := s.rootfs.DropImage(id); err != nil {
			return nil, err
		}
	}
	delete(s.images, id)
	removed := []moss.ImageRemoval{{Deleted: id}}
	used := map[string]bool{}
	for _, other := range s.images {
		for _, chain := range chains(other.DiffIDs) {
			used[chain] = true
		}
	}
	for _, chain := range slices.Backward(chains(im.DiffIDs)) {
		if used[chain] {
			break
		}
		removed = append(removed, moss.ImageRemoval{Deleted: moss.ImageID(chain)})
	}
	return removed, nil
}

// chains are the chain ids of layers.
func chains(diffIDs []string) []string {
	var ids []string
	for i, diff := range diffIDs {
		if i > 0 {
			diff = "sha256:" + sum([]byte(ids[i-1]+" "+diff))
		}
		ids = append(ids, diff)
	}
	return ids
}
