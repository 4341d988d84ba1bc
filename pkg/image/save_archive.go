package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/containers/storage"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// archiveWriter writes an archive; blobs come once each.
type archiveWriter struct {
	s    *Store
	ctx  context.Context
	tar  *tar.Writer
	have map[digest.Digest]bool
}

// savedEntry is an image in the manifest.json that is written.
type savedEntry struct {
	Config       string
	RepoTags     []string
	Layers       []string
	LayerSources map[digest.Digest]imgspec.Descriptor `json:",omitempty"`
}

// writeArchive writes what docker writes since version 25, in that order.
func (s *Store) writeArchive(ctx context.Context, images []*saved, w io.Writer) error {
	out := newOverlapped(w)
	err := s.writeTar(ctx, images, out)
	if closed := out.close(); err == nil {
		err = closed
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (s *Store) writeTar(ctx context.Context, images []*saved, w io.Writer) error {
	a := &archiveWriter{s: s, ctx: ctx, tar: tar.NewWriter(w), have: map[digest.Digest]bool{}}
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := a.header(dir, tar.TypeDir, 0o755, 0); err != nil {
			return err
		}
	}
	index := imgspec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageIndex}
	var entries []savedEntry
	repos := map[string]map[string]string{}
	for _, im := range images {
		desc, entry, err := a.image(im)
		if err != nil {
			return err
		}
		index.Manifests = append(index.Manifests, namedDescriptors(desc, im.names)...)
		entries = append(entries, entry)
		addRepos(repos, im)
	}
	if err := a.json("index.json", index); err != nil {
		return err
	}
	if err := a.json("manifest.json", entries); err != nil {
		return err
	}
	if err := a.json(imgspec.ImageLayoutFile, imgspec.ImageLayout{Version: imgspec.ImageLayoutVersion}); err != nil {
		return err
	}
	if len(repos) > 0 {
		if err := a.json("repositories", repos); err != nil {
			return err
		}
	}
	return a.tar.Close()
}

// image writes an image's blobs.
func (a *archiveWriter) image(im *saved) (imgspec.Descriptor, savedEntry, error) {
	m := imgspec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: imgspec.MediaTypeImageManifest,
		Config:    imgspec.Descriptor{MediaType: imgspec.MediaTypeImageConfig, Digest: digest.Digest(im.ID), Size: int64(len(im.config))},
		Layers:    plainLayers(im.chain),
	}
	e := savedEntry{RepoTags: []string{}, Layers: []string{}, LayerSources: map[digest.Digest]imgspec.Descriptor{}}
	for i, l := range im.chain {
		// The configuration's word counts: the store's is a note about it.
		m.Layers[i].Digest = digest.Digest(im.DiffIDs[i])
		size, err := a.layer(l, m.Layers[i].Digest)
		if err != nil {
			return imgspec.Descriptor{}, e, err
		}
		m.Layers[i].Size = size
		name, err := blobName(m.Layers[i].Digest)
		if err != nil {
			return imgspec.Descriptor{}, e, err
		}
		e.Layers = append(e.Layers, name)
		e.LayerSources[m.Layers[i].Digest] = m.Layers[i]
	}
	for _, n := range im.names {
		e.RepoTags = append(e.RepoTags, familiar(n))
	}
	var err error
	if e.Config, err = a.blob(im.config); err != nil {
		return imgspec.Descriptor{}, e, err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return imgspec.Descriptor{}, e, err
	}
	_, err = a.blob(b)
	return imgspec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}, e, err
}

// layer writes a layer's tar, if it is not there, and returns its size.
func (a *archiveWriter) layer(l storage.Layer, want digest.Digest) (int64, error) {
	name, err := blobName(want)
	if err != nil {
		return 0, err
	}
	size := l.UncompressedSize
	if size <= 0 { // a layer of another tool's making
		var n countWriter
		if err := a.s.layerTar(a.ctx, l.ID, "", &n); err != nil {
			return 0, err
		}
		size = int64(n)
	}
	if a.have[want] {
		return size, nil
	}
	a.have[want] = true
	if err := a.header(name, tar.TypeReg, 0o644, size); err != nil {
		return 0, err
	}
	return size, a.s.layerTar(a.ctx, l.ID, want, a.tar)
}

// blob writes a small blob, if it is not there, and returns its name.
func (a *archiveWriter) blob(b []byte) (string, error) {
	d := digest.FromBytes(b)
	name, err := blobName(d)
	if err != nil || a.have[d] {
		return name, err
	}
	a.have[d] = true
	return name, a.file(name, b)
}

func (a *archiveWriter) json(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.file(name, b)
}

func (a *archiveWriter) file(name string, b []byte) error {
	if err := a.header(name, tar.TypeReg, 0o644, int64(len(b))); err != nil {
		return err
	}
	_, err := io.Copy(a.tar, bytes.NewReader(b))
	return err
}

// header has a date that is always the same, as has the whole archive.
func (a *archiveWriter) header(name string, kind byte, mode, size int64) error {
	if err := a.ctx.Err(); err != nil {
		return err
	}
	return a.tar.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0)})
}

// namedDescriptors are an image's entries in index.json: one for each name.
func namedDescriptors(d imgspec.Descriptor, names []string) []imgspec.Descriptor {
	if len(names) == 0 {
		return []imgspec.Descriptor{d}
	}
	list := make([]imgspec.Descriptor, len(names))
	for i, n := range names {
		_, tag := cutTag(n)
		list[i] = d
		list[i].Annotations = map[string]string{containerdName: n, imgspec.AnnotationRefName: tag}
	}
	return list
}

// addRepos fills in the file "repositories", which old clients read.
func addRepos(repos map[string]map[string]string, im *saved) {
	if len(im.chain) == 0 {
		return
	}
	top := digest.Digest(im.DiffIDs[len(im.DiffIDs)-1]).Encoded()
	for _, n := range im.names {
		repo, tag := cutTag(n)
		if repos[repo] == nil {
			repos[repo] = map[string]string{}
		}
		repos[repo][tag] = top
	}
}

// cutTag takes a normalised name apart: the familiar repository and the tag.
func cutTag(name string) (repo, tag string) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name, ""
	}
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	return reference.FamiliarName(named), tag
}

type countWriter int64

func (c *countWriter) Write(b []byte) (int, error) {
	*c += countWriter(len(b))
	return len(b), nil
}
