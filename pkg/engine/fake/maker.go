package fake

import (
	"context"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/moss-containers/moss/pkg/moss"
)

// Make implements engine.ImageMaker. Errors: Invalid for any Changes, which only
// the real adapter reads.
func (s *Images) Make(ctx context.Context, n moss.NewImage, diff io.Reader) (moss.ImageID, error) {
	if err := s.failure(ctx, "Make"); err != nil {
		return "", err
	}
	if len(n.Changes) > 0 {
		return "", moss.Errorf(moss.Invalid, "the fake does not read changes")
	}
	name := ""
	if n.Reference != "" {
		var err error
		if name, err = normalTag(n.Reference); err != nil {
			return "", err
		}
	}
	layer, err := readLayer(diff)
	if err != nil {
		return "", err
	}
	if err := s.failure(ctx, "Make"); err != nil {
		return "", err
	}
	im := moss.Image{OS: "linux", Architecture: "amd64"}
	var layers [][]byte
	if n.Base != "" {
		s.mu.Lock()
		base, ok := s.images[n.Base]
		for _, d := range base.DiffIDs {
			layers = append(layers, s.blobs[d])
		}
		s.mu.Unlock()
		if !ok {
			return "", moss.Errorf(moss.NotFound, "No such image: %s", n.Base)
		}
		im = base
	}
	im.Created, im.Author, im.Config = time.Now(), n.Author, n.Config
	im.DiffIDs = append(slices.Clip(im.DiffIDs), "sha256:"+sum(layer))
	im.History = append(slices.Clip(im.History), moss.HistoryEntry{Created: im.Created, CreatedBy: n.CreatedBy, Author: n.Author, Comment: n.Message})
	made, err := s.keep(im, append(layers, layer), name)
	return made.ID, err
}

// Attest keeps statements with an image.
func (s *Images) Attest(id moss.ImageID, list ...moss.Attestation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attested[id] = append(s.attested[id], list...)
}

// Attestations implements engine.ImageMaker: those of Attest.
func (s *Images) Attestations(ctx context.Context, id moss.ImageID, types []string) ([]moss.Attestation, error) {
	if err := s.failure(ctx, "Attestations"); err != nil {
		return nil, err
	}
	if _, err := s.Resolve(ctx, string(id)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []moss.Attestation
	for _, a := range s.attested[id] {
		if len(types) == 0 || slices.Contains(types, a.PredicateType) {
			list = append(list, a)
		}
	}
	return list, nil
}

// Strand leaves a layer as a pull does that was cut short.
func (s *Images) Strand(chain string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stranded[chain] = size
}

// imageCopy is an image's copy for a user namespace.
type imageCopy struct {
	of    moss.ImageID
	size  int64
	spare bool
}

// Copy makes a copy of an image, as a container with a user namespace of its own
// has it until drop is called.
func (s *Images) Copy(id moss.ImageID) (drop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &imageCopy{of: id, size: s.images[id].Size}
	s.copies = append(s.copies, c)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.spare = true
	}
}

// Usage implements engine.ImageSpace.
func (s *Images) Usage(ctx context.Context) (unused int64, copies map[moss.ImageID]int64, err error) {
	if err := s.failure(ctx, "Usage"); err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for size := range maps.Values(s.stranded) {
		unused += size
	}
	copies = make(map[moss.ImageID]int64)
	for _, c := range s.copies {
		if c.spare {
			unused += c.size
		} else {
			copies[c.of] += c.size
		}
	}
	return unused, copies, nil
}

// Collect implements engine.ImageSpace.
func (s *Images) Collect(ctx context.Context) (int64, error) {
	bytes, _, err := s.Usage(ctx)
	if err == nil {
		err = s.failure(ctx, "Collect")
	}
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.stranded)
	s.copies = slices.DeleteFunc(s.copies, func(c *imageCopy) bool { return c.spare })
	return bytes, nil
}
