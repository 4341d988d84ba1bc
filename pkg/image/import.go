package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"runtime"

	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// Import makes a one-layer image of a root file system's tar, compressed or not.
func (s *Store) Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (_ moss.LoadedImage, err error) {
	defer func() { err = moss.Wrap(err, "import the root file system", "") }()
	var name string
	if o.Reference != "" {
		if name, err = normalTag(o.Reference); err != nil {
			return moss.LoadedImage{}, err
		}
	}
	im := moss.Image{Created: now(), Comment: o.Message, Architecture: o.Architecture, OS: o.OS, Variant: o.Variant}
	if im.Architecture == "" {
		im.Architecture = runtime.GOARCH
	}
	if im.OS == "" {
		im.OS = runtime.GOOS
	}
	if im.Comment == "" {
		im.Comment = "Imported from -"
	}
	if im.Config, err = applyChanges(o.Changes); err != nil {
		return moss.LoadedImage{}, err
	}
	im.History = []moss.HistoryEntry{{Created: im.Created, Comment: im.Comment}}
	id, err := s.build(ctx, r, im, name)
	if err != nil {
		return moss.LoadedImage{}, err
	}
	made := moss.LoadedImage{ID: id}
	if name != "" {
		made.Name = familiar(name)
	}
	return made, nil
}

// build stores an image of one layer, whose tar r has, and names it.
func (s *Store) build(ctx context.Context, r io.Reader, im moss.Image, name string) (_ moss.ImageID, err error) {
	sum := sha256.New()
	f, err := s.spool(ctx, r, sum)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, discard(f)) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	diff := digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum.Sum(nil)))
	im.DiffIDs = []string{diff.String()}
	config, err := encodeConfig(im)
	if err != nil {
		return "", err
	}
	id := moss.ImageID(digest.FromBytes(config))
	if _, ok := s.get(id); !ok {
		s.arrive()
		err := s.put(id, f, diff, info.Size(), config, im)
		if err = errors.Join(err, s.depart(err != nil)); err != nil {
			return "", err
		}
	}
	if name != "" {
		if _, err := s.name(id, name); err != nil {
			return id, err
		}
	}
	return id, nil
}

// put makes layer, manifest and image.
func (s *Store) put(id moss.ImageID, tar io.Reader, diff digest.Digest, size int64, config []byte, im moss.Image) error {
	// A layer without a parent is named by its digest, as the library names those it makes.
	layer := diff.Encoded()
	_, _, err := s.store.PutLayer(layer, "", nil, "", false, &storage.LayerOptions{OriginalDigest: diff, OriginalSize: &size}, tar)
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return broken(err)
	}
	man, err := json.Marshal(imgspec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imgspec.MediaTypeImageManifest,
		Config:    imgspec.Descriptor{MediaType: imgspec.MediaTypeImageConfig, Digest: digest.Digest(id), Size: int64(len(config))},
		Layers:    []imgspec.Descriptor{{MediaType: imgspec.MediaTypeImageLayer, Digest: diff, Size: size}},
	})
	if err != nil {
		return err
	}
	manDigest := digest.FromBytes(man)
	_, err = s.store.CreateImage(hexOf(id), nil, layer, "{}", &storage.ImageOptions{
		CreationDate: im.Created,
		BigData: []storage.ImageBigDataOption{
			{Key: string(id), Data: config, Digest: digest.Digest(id)},
			{Key: storage.ImageDigestManifestBigDataNamePrefix + "-" + manDigest.String(), Data: man, Digest: manDigest},
			{Key: storage.ImageDigestBigDataKey, Data: man, Digest: manDigest},
		},
	})
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return err
	}
	_, err = s.fetch(id)
	return err
}
