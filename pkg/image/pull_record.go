package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/moss"
)

// pulled is an image whose layers are in the store.
type pulled struct {
	id      moss.ImageID
	config  []byte
	created time.Time
	top     string   // id of the last layer; "" for none
	names   []string // normalised, with a tag or a digest
	attests []moss.Attestation

	raw         []byte // manifest
	digest      digest.Digest
	index       []byte // that names the manifest; nil for none
	indexDigest digest.Digest
}

// halfway is the metadata of an image that is to get names in its next step.
// Together with names or with taggedKey it says nothing. Without both the pull
// was killed in between, and dropUnfinished takes the image away.
const halfway = `{"moss-unnamed":true}`

// errGone tells that an image was deleted since it was looked for.
var errGone = errors.New("the image is gone")

// keep makes the image and names it. The caller holds its layers.
//
// The store writes an image's record first and its data after, so the record
// has no name until all is there; a name moves from image to image in one write.
func (s *Store) keep(r pulled) error {
	data := append(manifestData(r), storage.ImageBigDataOption{Key: storage.ImageDigestBigDataKey, Data: r.raw, Digest: r.digest})
	more, err := attestationData(r.attests)
	if err != nil {
		return err
	}
	data = append(data, more...)
	data = append(data, storage.ImageBigDataOption{Key: string(r.id), Data: r.config, Digest: digest.Digest(r.id)}) // the last: see dropUnfinished
	s.naming.Lock()
	defer s.naming.Unlock()
	_, err = s.store.CreateImage(hexOf(r.id), nil, r.top, halfway, &storage.ImageOptions{CreationDate: r.created, Digest: r.digest, BigData: data})
	made := err == nil
	if errors.Is(err, storage.ErrDuplicateID) { // another pull was faster
		err = nil
	}
	if err == nil {
		err = s.giveNamesLocked(r)
	}
	if err != nil && made {
		err = errors.Join(err, s.store.Delete(hexOf(r.id))) // the record alone: the layers are for the next try
	}
	return err
}

// rename gives names to an image that is there, and tells whether that changed anything.
func (s *Store) rename(r pulled) (isNew bool, err error) {
	s.naming.Lock()
	defer s.naming.Unlock()
	im, ok := s.get(r.id)
	if !ok {
		return false, errGone
	}
	has := slices.Concat(im.Names, im.Digests)
	if !slices.ContainsFunc(r.names, func(n string) bool { return !slices.Contains(has, n) }) {
		return false, nil
	}
	return true, s.giveNamesLocked(r)
}

// giveNamesLocked gives the image its names in the store, all in one write, and
// then in the index; s.naming is held.
func (s *Store) giveNamesLocked(r pulled) error {
	hex := hexOf(r.id)
	raw, err := s.store.Image(hex)
	if err != nil {
		return err
	}
	// Who looks for the image by a digest is to find what has that digest.
	for _, d := range manifestData(r) {
		if slices.Contains(raw.BigDataNames, d.Key) {
			continue
		}
		if err := s.store.SetImageBigData(hex, d.Key, d.Data, manifest.Digest); err != nil {
			return err
		}
	}
	if err := s.store.AddNames(hex, r.names); err != nil {
		return err
	}
	s.stamp(r.id)
	im, err := s.look(r.id)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range r.names {
		if old := s.names[n]; old != "" && old != r.id {
			s.dropNameLocked(old, n)
		}
	}
	s.putLocked(im)
	return nil
}

func manifestData(r pulled) []storage.ImageBigDataOption {
	key := func(d digest.Digest) string { return storage.ImageDigestManifestBigDataNamePrefix + "-" + d.String() }
	list := []storage.ImageBigDataOption{{Key: key(r.digest), Data: r.raw, Digest: r.digest}}
	if r.index != nil {
		list = append(list, storage.ImageBigDataOption{Key: key(r.indexDigest), Data: r.index, Digest: r.indexDigest})
	}
	return list
}

// stamp notes that an image was given a name just now.
func (s *Store) stamp(id moss.ImageID) {
	b, err := now().MarshalText()
	if err == nil {
		err = s.store.SetImageBigData(hexOf(id), taggedKey, b, manifest.Digest)
	}
	if err != nil {
		s.log.Warn("the time of a tag is lost", "image", id.Short(), "error", err)
	}
}

// dropUnfinished takes away the images that a killed process was about to make:
// those without the last of their data, and those that were about to get names. Their
// layers stay. It says whether the store is another than it was.
func (s *Store) dropUnfinished(all inventory) (changed bool, err error) {
	for _, raw := range all.Images {
		id := moss.ImageID("sha256:" + raw.ID)
		stamped := slices.Contains(raw.BigDataNames, taggedKey)
		pulled := raw.Metadata == halfway && !stamped
		switch whole := slices.Contains(raw.BigDataNames, string(id)); {
		case !whole, pulled && len(raw.Names) == 0:
			if err := s.store.Delete(raw.ID); err != nil {
				return true, fmt.Errorf("image %s: %w", id.Short(), err)
			}
			changed = true
		case pulled: // killed right after it got its names: when they go it must not
			s.stamp(id)
			changed = true
		}
	}
	return changed, nil
}

// dropStaged removes the layers that a killed process was unpacking, behind the
// start: they may be large. Nobody has begun to unpack any yet.
func (s *Store) dropStaged() error {
	staging := filepath.Join(s.store.GraphRoot(), s.store.GraphDriverName(), "staging")
	left, err := os.ReadDir(staging)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(left) == 0 {
		return nil
	}
	if err == nil {
		err = s.reaper.bury(staging)
	}
	if err != nil { // it is on another disk
		return os.RemoveAll(staging)
	}
	return nil
}
