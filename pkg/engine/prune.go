package engine

import (
	"context"
	"slices"
	"strconv"

	"github.com/moss-containers/moss/pkg/moss"
)

// Prune removes the images that the filter chooses and no container is made of,
// those without a tag where it does not say, and the layers that no image
// needs. An image that cannot be removed stops no other. What was done before
// ctx ended is returned with its error.
func (s Images) Prune(ctx context.Context, f moss.ImageFilter) (moss.ImagePruned, error) {
	var pruned moss.ImagePruned
	images, err := s.List(ctx)
	if err != nil {
		return pruned, err
	}
	sizes := sizesOf(images).size
	for _, image := range images {
		if ctx.Err() != nil || !prunes(f, image) || s.userOf(image.ID) != nil {
			continue
		}
		removed, err := s.pruneOne(ctx, image.ID, f)
		if err != nil {
			s.Log.Warn("an image could not be pruned", "image", image.ID.Short(), "error", err)
		}
		for _, r := range removed {
			pruned.Reclaimed += sizes[string(r.Deleted)]
		}
		pruned.Removed = append(pruned.Removed, removed...)
	}
	err = ctx.Err()
	if err == nil {
		var freed int64
		freed, err = s.Space.Collect(ctx)
		pruned.Reclaimed += freed
	}
	s.publishImage("prune", "", nil, "reclaimed", strconv.FormatInt(pruned.Reclaimed, 10))
	return pruned, err
}

// pruneOne removes one image, if it still is one to prune when its turn comes.
func (s Images) pruneOne(ctx context.Context, id moss.ImageID, f moss.ImageFilter) ([]moss.ImageRemoval, error) {
	image, release, err := s.claim(ctx, string(id), true)
	if moss.ClassOf(err) == moss.NotFound && err != nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer release()
	if !prunes(f, image) || s.userOf(id) != nil {
		return nil, nil
	}
	ctx = context.WithoutCancel(ctx) // once begun it is finished
	r := removal{Engine: s.Engine, image: image, refs: slices.Concat(image.Names, image.Digests)}
	if err := r.untagAll(ctx); err != nil {
		return r.done, err
	}
	return r.delete(ctx)
}

// prunes says whether a filter chooses an image.
func prunes(f moss.ImageFilter, image moss.Image) bool {
	labels := image.Config.Labels
	switch {
	case (f.Dangling == nil || *f.Dangling) && len(image.Names) > 0:
	case !f.Until.IsZero() && image.Created.After(f.Until):
	case !hasLabels(labels, f.Labels):
	case slices.ContainsFunc(f.NotLabel, func(l string) bool { return hasLabels(labels, []string{l}) }):
	default:
		return true
	}
	return false
}
