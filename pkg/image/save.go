package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containers/storage"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/moss"
)

// Save writes an archive that is a docker-archive and an OCI layout at once,
// the same bytes each time. Nothing is written when one of the images is not
// there or not for the platform. Layers come from the store as the tars they
// were, checked against their digests on their way; one that is not what it was
// ends the archive with an error, half written.
func (s *Store) Save(ctx context.Context, r moss.SaveRequest, w io.Writer) (ids []moss.ImageID, err error) {
	defer func() { err = moss.Wrap(err, "save", strings.Join(r.Refs, " ")) }()
	images, err := s.toSave(ctx, r)
	if err != nil {
		return nil, err
	}
	release, err := s.holdSaved(ctx, images)
	defer release()
	if err != nil {
		return nil, err
	}
	for _, im := range images {
		ids = append(ids, im.ID)
	}
	return ids, s.writeArchive(ctx, images, w)
}

// saved is one image for an archive, with the names it gets there.
type saved struct {
	moss.Image

	names  []string // normalised
	config []byte
	chain  []storage.Layer // the base first
}

// toSave finds the images, each once, in the order they were asked for.
func (s *Store) toSave(ctx context.Context, r moss.SaveRequest) (list []*saved, err error) {
	want, err := parsePlatform(r.Platform)
	if err != nil {
		return nil, err
	}
	if len(r.Refs) == 0 {
		return nil, moss.Errorf(moss.Invalid, "no image is named")
	}
	for _, ref := range r.Refs {
		found, err := s.named(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			if !suits(want, platformOf(f.Image)) {
				return nil, moss.Errorf(moss.NotFound, "image with reference %s was found but does not provide the specified platform (%s): it is for %s", ref, r.Platform, platformText(platformOf(f.Image)))
			}
			i := slices.IndexFunc(list, func(o *saved) bool { return o.ID == f.ID })
			if i < 0 {
				list = append(list, &saved{Image: f.Image})
				i = len(list) - 1
			}
			for _, n := range f.names {
				if !slices.Contains(list[i].names, n) {
					list[i].names = append(list[i].names, n)
				}
			}
		}
	}
	return list, nil
}

// named finds what a reference means: one image by name and tag, all tags of a
// name alone, one image without a name by id or digest.
func (s *Store) named(ctx context.Context, ref string) ([]saved, error) {
	im, err := s.Resolve(ctx, ref)
	named, nameErr := reference.ParseNormalizedNamed(ref)
	if nameErr != nil { // an id in full
		return []saved{{Image: im}}, err
	}
	if tagged, ok := named.(reference.NamedTagged); ok && err == nil && slices.Contains(im.Names, tagged.String()) {
		return []saved{{Image: im, names: []string{tagged.String()}}}, nil
	}
	if !reference.IsNameOnly(named) {
		return []saved{{Image: im}}, err
	}
	if all := s.tagsOf(named.Name()); len(all) > 0 {
		return all, nil
	}
	return []saved{{Image: im}}, err
}

// tagsOf returns the images that have a tag of a repository, in the order of their first one.
func (s *Store) tagsOf(repo string) (all []saved) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, im := range s.images {
		one := saved{Image: im}
		for _, n := range im.Names {
			if named, err := reference.ParseNormalizedNamed(n); err == nil && named.Name() == repo {
				one.names = append(one.names, n)
			}
		}
		if len(one.names) > 0 {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b saved) int { return strings.Compare(a.names[0], b.names[0]) })
	return all
}

// holdSaved reads what is small of the images and keeps their layers from removal.
func (s *Store) holdSaved(ctx context.Context, images []*saved) (release func(), err error) {
	var releases []func()
	release = func() {
		for _, r := range releases {
			r()
		}
	}
	for _, im := range images {
		// Held before the image is looked for: if it is there then, so are they, and stay.
		drop, err := s.hold(ctx, chainsOf(im.DiffIDs)...)
		if err != nil {
			return release, err
		}
		releases = append(releases, drop)
		drop, err = s.readSaved(ctx, im)
		releases = append(releases, drop)
		if errors.Is(err, storage.ErrImageUnknown) {
			return release, notFound(string(im.ID))
		}
		if err != nil {
			return release, fmt.Errorf("image %s: %w", im.ID.Short(), err)
		}
	}
	return release, nil
}

// readSaved reads what is small of an image, and holds layers that are not called by their chains.
func (s *Store) readSaved(ctx context.Context, im *saved) (release func(), err error) {
	release = func() {}
	raw, err := s.store.Image(hexOf(im.ID))
	if err != nil {
		return release, err
	}
	if im.config, err = s.store.ImageBigData(hexOf(im.ID), string(im.ID)); err != nil {
		return release, err
	}
	if im.chain, err = s.chain(raw.TopLayer); err != nil {
		return release, err
	}
	if len(im.chain) != len(im.DiffIDs) {
		return release, fmt.Errorf("it has %d layers where its configuration tells of %d", len(im.chain), len(im.DiffIDs))
	}
	ids := make([]string, len(im.chain))
	for i, l := range im.chain {
		ids[i] = l.ID
	}
	return s.hold(ctx, ids...)
}

// chainsOf are the ids of the layers that these diff ids make.
func chainsOf(diffs []string) []string {
	ids := make([]string, len(diffs))
	parent := ""
	for i, d := range diffs {
		ids[i] = layer.Under(parent, digest.Digest(d))
		parent = ids[i]
	}
	return ids
}
