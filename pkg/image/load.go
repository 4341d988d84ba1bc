package image

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	is "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/types"

	"github.com/moss-containers/moss/pkg/moss"
)

// Load reads a docker- or OCI-archive of one or more images, compressed or
// not. It brings in all of them or none: they get their names when every one is
// there. The lines for progress have no newline.
func (s *Store) Load(ctx context.Context, r io.Reader, _ moss.LoadOptions, progress func(moss.Progress)) (_ []moss.LoadedImage, err error) {
	defer func() { err = moss.Wrap(err, "load the archive", "") }()
	f, err := s.spool(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, discard(f)) }()
	list, cleanup, err := s.items(f)
	defer func() { err = errors.Join(err, cleanup()) }()
	if err != nil {
		return nil, broken(err)
	}
	ids, err := s.copyAll(ctx, list)
	if err != nil {
		return nil, err
	}
	var loaded []moss.LoadedImage
	for i, it := range list {
		if len(it.names) == 0 {
			loaded = append(loaded, moss.LoadedImage{ID: ids[i]})
			progress(moss.Progress{Status: "Loaded image ID: " + string(ids[i])})
		}
		for _, name := range it.names {
			had, err := s.name(ids[i], name)
			if err != nil {
				return loaded, err
			}
			if had != "" {
				progress(moss.Progress{Status: "The image " + familiar(name) + " already exists, renaming the old one with ID " + string(had) + " to empty string"})
			}
			loaded = append(loaded, moss.LoadedImage{ID: ids[i], Name: familiar(name)})
			progress(moss.Progress{Status: "Loaded image: " + familiar(name)})
		}
	}
	return loaded, nil
}

// copyAll brings the images in without names. On an error those that are new
// are deleted again.
func (s *Store) copyAll(ctx context.Context, list []item) (ids []moss.ImageID, err error) {
	s.arrive()
	var fresh []moss.ImageID
	defer func() {
		if err != nil {
			ids = nil
			for _, id := range slices.Backward(fresh) {
				_, rm := s.Delete(context.WithoutCancel(ctx), id)
				err = errors.Join(err, rm)
			}
		}
		err = errors.Join(err, s.depart(err != nil))
	}()
	for _, it := range list {
		id, isNew, err := s.copyIn(ctx, it.ref)
		if isNew {
			fresh = append(fresh, id)
		}
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err() // whatever else it broke
			}
			return nil, broken(err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// copyIn brings one image in, unless it is there; isNew says that it was not
// and is now, even with an error.
func (s *Store) copyIn(ctx context.Context, src types.ImageReference) (id moss.ImageID, isNew bool, err error) {
	digest, err := s.configDigest(ctx, src)
	if err != nil {
		return "", false, err
	}
	id = moss.ImageID(digest)
	if _, ok := s.get(id); ok {
		return id, false, nil
	}
	dest, err := is.Transport.NewStoreReference(s.store, nil, hexOf(id))
	if err != nil {
		return "", false, err
	}
	// Who may open an archive may use what is in it; a registry's images are another matter.
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	if err != nil {
		return "", false, err
	}
	_, err = copy.Image(ctx, policy, dest, src, &copy.Options{RemoveSignatures: true, SourceCtx: s.sys, DestinationCtx: s.sys, MaxParallelDownloads: 2})
	if err = errors.Join(err, policy.Destroy()); err != nil {
		return "", false, err
	}
	im, err := s.fetch(id)
	if err != nil { // a configuration that nobody can read: it must not stay
		s.mu.Lock()
		s.images[id] = im
		s.mu.Unlock()
	}
	return id, true, err
}

func (s *Store) configDigest(ctx context.Context, src types.ImageReference) (_ string, err error) {
	img, err := src.NewImage(ctx, s.sys)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	info := img.ConfigInfo()
	if err := info.Digest.Validate(); err != nil {
		return "", errors.New("the image has no configuration")
	}
	return info.Digest.String(), nil
}
