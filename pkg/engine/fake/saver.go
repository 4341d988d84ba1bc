package fake

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// ociManifest is an OCI manifest, or an index of them.
type ociManifest struct {
	SchemaVersion int           `json:"schemaVersion"`
	MediaType     string        `json:"mediaType,omitempty"`
	Config        *descriptor   `json:"config,omitempty"`
	Layers        []descriptor  `json:"layers,omitempty"`
	Manifests     []*descriptor `json:"manifests,omitempty"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Platform    *platform         `json:"platform,omitempty"`
}

type platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

func (p *platform) String() string {
	if p.Variant == "" {
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

func describe(mediaType string, b []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: "sha256:" + sum(b), Size: len(b)}
}

// manifestLocked makes the manifest of an image that is here.
func (s *Images) manifestLocked(im moss.Image) ([]byte, error) {
	config := describe(typeConfig, s.blobs[string(im.ID)])
	m := ociManifest{SchemaVersion: 2, MediaType: typeManifest, Config: &config, Layers: []descriptor{}}
	for _, d := range im.DiffIDs {
		m.Layers = append(m.Layers, describe(typeLayer, s.blobs[d]))
	}
	return json.Marshal(m)
}

// Save implements engine.ImageSaver.
func (s *Images) Save(ctx context.Context, r moss.SaveRequest, w io.Writer) ([]moss.ImageID, error) {
	if err := s.failure(ctx, "Save"); err != nil {
		return nil, err
	}
	names := map[moss.ImageID][]string{}
	var ids []moss.ImageID
	for _, ref := range r.Refs {
		chosen, err := s.chosen(ctx, ref)
		if err != nil {
			return nil, err
		}
		for _, im := range chosen {
			if r.Platform != "" && !fits(im, r.Platform) {
				return nil, moss.Errorf(moss.NotFound, "image %s has another platform than %s", ref, r.Platform)
			}
			if _, ok := names[im.ID]; !ok {
				ids = append(ids, im.ID)
			}
			names[im.ID] = append(names[im.ID], im.Names...)
		}
	}
	if len(ids) == 0 {
		return nil, moss.Errorf(moss.Invalid, "no image is named")
	}
	files, err := s.archive(ids, names)
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := tw.Write(files[name]); err != nil {
			return nil, err
		}
	}
	return ids, tw.Close()
}

// chosen are the images that one reference of a SaveRequest means, each with the
// names it is saved under.
func (s *Images) chosen(ctx context.Context, ref string) ([]moss.Image, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err == nil && reference.IsNameOnly(named) {
		all, err := s.List(ctx)
		if err != nil {
			return nil, err
		}
		var chosen []moss.Image
		for _, im := range all {
			im.Names = slices.DeleteFunc(slices.Clone(im.Names), func(n string) bool { return !strings.HasPrefix(n, named.Name()+":") })
			if len(im.Names) > 0 {
				chosen = append(chosen, im)
			}
		}
		if len(chosen) > 0 {
			return chosen, nil
		}
	}
	im, resolveErr := s.Resolve(ctx, ref)
	if resolveErr != nil {
		return nil, resolveErr
	}
	im.Names = nil
	if err == nil && !reference.IsNameOnly(named) {
		if _, digested := named.(reference.Digested); !digested {
			im.Names = []string{named.String()}
		}
	}
	return []moss.Image{im}, nil
}

// archive has the files of a docker-archive that is an OCI layout too.
func (s *Images) archive(ids []moss.ImageID, names map[moss.ImageID][]string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	type entry struct {
		Config           string
		RepoTags, Layers []string
	}
	var entries []entry
	index := ociManifest{SchemaVersion: 2, MediaType: typeIndex}
	put := func(b []byte) string {
		name := "blobs/sha256/" + sum(b)
		files[name] = b
		return name
	}
	for _, id := range ids {
		im := s.images[id]
		e := entry{Config: put(s.blobs[string(id)])}
		for _, d := range im.DiffIDs {
			e.Layers = append(e.Layers, put(s.blobs[d]))
		}
		m, err := s.manifestLocked(im)
		if err != nil {
			return nil, err
		}
		put(m)
		if len(names[id]) == 0 {
			d := describe(typeManifest, m)
			index.Manifests = append(index.Manifests, &d)
		}
		for _, name := range names[id] {
			d := describe(typeManifest, m)
			d.Annotations = map[string]string{"io.containerd.image.name": name}
			index.Manifests = append(index.Manifests, &d)
			e.RepoTags = append(e.RepoTags, familiar(name))
		}
		entries = append(entries, e)
	}
	var err error
	if files["manifest.json"], err = json.Marshal(entries); err != nil {
		return nil, err
	}
	files["index.json"], err = json.Marshal(index)
	return files, err
}
