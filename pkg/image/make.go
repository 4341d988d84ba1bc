package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/moss"
)

// emptyTar is the diff id of a layer without a file. Like docker, Make adds
// none for it, only a line to the history.
const emptyTar = digest.Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")

// Make adds a layer, whose tar is read from diff, on top of a base.
func (s *Store) Make(ctx context.Context, n moss.NewImage, diff io.Reader) (_ moss.ImageID, err error) {
	defer func() { err = moss.Wrap(s.diskFull(err), "make the image", n.Reference) }()
	var name string
	if n.Reference != "" {
		if name, err = normalTag(n.Reference); err != nil {
			return "", err
		}
	}
	im := moss.Image{Created: now(), Author: n.Author, Comment: n.Message, Config: cloneConfig(n.Config)}
	im.OS, im.Architecture, im.Variant = thisMachine().OS, thisMachine().Architecture, thisMachine().Variant
	var base *moss.Image
	if n.Base != "" {
		b, ok := s.get(n.Base)
		if !ok {
			return "", notFound(string(n.Base))
		}
		base = &b
		im.OS, im.Architecture, im.Variant = b.OS, b.Architecture, b.Variant
		im.History = slices.Clone(b.History)
	}
	if err := change(&im.Config, n.Changes); err != nil {
		return "", err
	}
	im.History = append(im.History, moss.HistoryEntry{Created: im.Created, CreatedBy: n.CreatedBy, Author: n.Author, Comment: n.Message})
	return s.build(ctx, diff, building{image: im, base: base, container: n.Container, skipEmpty: true}, name)
}

// building is an image that lacks only its last layer.
type building struct {
	image     moss.Image  // with the history, but no diff ids
	base      *moss.Image // nil for none
	container moss.ContainerID
	skipEmpty bool // an empty layer is left out
}

// build stages the layer whose tar r has, compressed or not, and makes and names the image.
func (s *Store) build(ctx context.Context, r io.Reader, b building, name string) (_ moss.ImageID, err error) {
	defer s.disk.Changed()
	src := &source{ctx: ctx, r: r}
	staged, err := s.unpacker.Stage(ctx, src, layer.Expect{})
	switch {
	case err == nil && src.n > 0:
	case ctx.Err() != nil:
		err = ctx.Err()
	case src.err != nil: // the client's stream broke, not its contents
		err = fmt.Errorf("reading the archive: %w", src.err)
	case src.n == 0:
		err = moss.Errorf(moss.Invalid, "the archive is empty")
	default:
		err = broken(err)
	}
	if staged != nil {
		defer func() { err = errors.Join(err, staged.Discard()) }()
	}
	if err != nil {
		return "", err
	}
	return s.finish(ctx, staged, b, name)
}

// finish commits the layer, puts the image in and gives it its name, "" for none.
func (s *Store) finish(ctx context.Context, staged *layer.Staged, b building, name string) (id moss.ImageID, err error) {
	top := ""
	if b.base != nil {
		raw, err := s.store.Image(hexOf(b.base.ID))
		if errors.Is(err, storage.ErrImageUnknown) {
			return "", notFound(string(b.base.ID))
		}
		if err != nil {
			return "", err
		}
		top = raw.TopLayer
		b.image.DiffIDs = slices.Clone(b.base.DiffIDs)
	}
	diff := staged.Info().DiffID
	release, err := s.hold(ctx, top, layer.Under(top, diff))
	if err != nil {
		return "", err
	}
	made := ""
	defer func() {
		release()
		if err != nil && made != "" {
			err = errors.Join(err, s.abandon([]string{made}))
		}
	}()
	// It was there before it was held.
	if _, ok := s.unpacker.Has(top); top != "" && !ok {
		return "", notFound(string(b.base.ID))
	}
	if diff == emptyTar && b.skipEmpty {
		b.image.History[len(b.image.History)-1].EmptyLayer = true
	} else {
		_, had := s.unpacker.Has(layer.Under(top, diff))
		if top, err = s.commit(staged, top, nil); err != nil {
			return "", broken(err)
		}
		if !had {
			made = top
		}
		b.image.DiffIDs = append(b.image.DiffIDs, diff.String())
	}
	config, err := encodeBuilt(b)
	if err != nil {
		return "", err
	}
	s.naming.Lock()
	defer s.naming.Unlock()
	id, _, err = s.recordLocked(newRecord{config: config, top: top, unnamed: name != ""})
	if err == nil && name != "" {
		_, err = s.nameLocked(id, name)
	}
	return id, err
}

// cloneConfig copies what change would write to.
func cloneConfig(c moss.ContainerConfig) moss.ContainerConfig {
	c.Env, c.Volumes, c.OnBuild, c.ExposedPorts = slices.Clone(c.Env), slices.Clone(c.Volumes), slices.Clone(c.OnBuild), slices.Clone(c.ExposedPorts)
	c.Labels = maps.Clone(c.Labels)
	return c
}
