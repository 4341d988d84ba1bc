package image

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// newRecord is an image whose layers are in the store. Whoever puts it in holds
// the layers (see hold) from before it looked for them until the record is there.
type newRecord struct {
	config       []byte
	manifest     []byte // of the image, never an index; nil makes one
	top          string // id of the last layer, "" for an image without one
	attestations []moss.Attestation
	unnamed      bool // it is to get names in the next step, or be confirmed; see halfway
}

// recordLocked puts an image into the store and the index, unless it is there;
// isNew tells. It gets its names with nameLocked, or is confirmed where it has
// none, before s.naming is let go: until then nobody can delete it.
func (s *Store) recordLocked(r newRecord) (id moss.ImageID, isNew bool, err error) {
	id = moss.ImageID(digest.FromBytes(r.config))
	if _, ok := s.get(id); ok {
		return id, false, nil
	}
	im, err := decodeConfig(r.config)
	if err != nil {
		return id, false, &moss.Error{Class: moss.Invalid, Err: err}
	}
	if r.manifest == nil {
		if r.manifest, err = s.plainManifest(r); err != nil {
			return id, false, err
		}
	}
	sum := digest.FromBytes(r.manifest)
	data := []storage.ImageBigDataOption{
		{Key: storage.ImageDigestManifestBigDataNamePrefix + "-" + sum.String(), Data: r.manifest, Digest: sum},
		{Key: storage.ImageDigestBigDataKey, Data: r.manifest, Digest: sum},
	}
	more, err := attestationData(r.attestations)
	if err != nil {
		return id, false, err
	}
	data = append(data, more...)
	// The store writes the record first and its data after: without the last of it, it is not whole.
	data = append(data, storage.ImageBigDataOption{Key: string(id), Data: r.config, Digest: digest.Digest(id)})
	meta := "{}"
	if r.unnamed {
		meta = halfway
	}
	_, err = s.store.CreateImage(hexOf(id), nil, r.top, meta, &storage.ImageOptions{CreationDate: im.Created, Digest: sum, BigData: data})
	if err != nil && !errors.Is(err, storage.ErrDuplicateID) {
		return id, false, err
	}
	_, err = s.fetch(id)
	return id, true, err
}

// plainManifest describes an image's layers as plain tars.
func (s *Store) plainManifest(r newRecord) ([]byte, error) {
	m := imgspec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imgspec.MediaTypeImageManifest,
		Config:    imgspec.Descriptor{MediaType: imgspec.MediaTypeImageConfig, Digest: digest.FromBytes(r.config), Size: int64(len(r.config))},
	}
	chain, err := s.chain(r.top)
	if err != nil {
		return nil, err
	}
	m.Layers = plainLayers(chain)
	return json.Marshal(m)
}

func plainLayers(chain []storage.Layer) []imgspec.Descriptor {
	list := make([]imgspec.Descriptor, len(chain))
	for i, l := range chain {
		list[i] = imgspec.Descriptor{MediaType: imgspec.MediaTypeImageLayer, Digest: l.UncompressedDigest, Size: l.UncompressedSize}
	}
	return list
}

// chain returns a layer and those below it, the base first.
func (s *Store) chain(top string) ([]storage.Layer, error) {
	var list []storage.Layer
	for id := top; id != ""; {
		l, err := s.store.Layer(id)
		if err != nil {
			return nil, err
		}
		list = append(list, *l)
		id = l.Parent
	}
	slices.Reverse(list)
	return list, nil
}

// confirm makes an image that was to get names stay without one.
func (s *Store) confirm(id moss.ImageID) error {
	meta, err := s.store.Metadata(hexOf(id))
	if err != nil || meta != halfway {
		return err
	}
	return s.store.SetMetadata(hexOf(id), "{}")
}
