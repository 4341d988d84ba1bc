package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containers/image/v5/manifest"
	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// chosen is the image that a reference leads to.
type chosen struct {
	topDigest digest.Digest        // of what the reference names
	index     []byte               // what it names, if that is an index
	digest    digest.Digest        // of the image's manifest
	raw       []byte               // the image's manifest
	man       anyManifest          // the same
	attests   []imgspec.Descriptor // manifests of statements about the image
}

// anyManifest is what a manifest of any kind may have.
type anyManifest struct {
	MediaType    string               `json:"mediaType"`
	ArtifactType string               `json:"artifactType"`
	Config       *imgspec.Descriptor  `json:"config"`
	Layers       []imgspec.Descriptor `json:"layers"`
	Manifests    []imgspec.Descriptor `json:"manifests"`
	FSLayers     json.RawMessage      `json:"fsLayers"`
}

func isIndexType(kind string) bool {
	return kind == imgspec.MediaTypeImageIndex || kind == manifest.DockerV2ListMediaType
}

func isImageType(kind string) bool {
	return kind == imgspec.MediaTypeImageManifest || kind == manifest.DockerV2Schema2MediaType
}

func isSchema1Type(kind string) bool {
	return kind == manifest.DockerV2Schema1MediaType || kind == manifest.DockerV2Schema1SignedMediaType
}

// decodeManifest reads a manifest and tells its kind, which its contents and
// the registry must agree on: one that can be read in two ways is read in none.
func decodeManifest(b []byte, kind string) (anyManifest, string, error) {
	var m anyManifest
	if err := json.Unmarshal(b, &m); err != nil {
		return m, "", moss.Errorf(moss.Invalid, "the manifest is damaged: %w", err)
	}
	if !isIndexType(kind) && !isImageType(kind) && !isSchema1Type(kind) {
		kind = manifest.GuessMIMEType(b) // the registry does not know
	}
	if isSchema1Type(kind) {
		return m, kind, nil
	}
	switch {
	case m.MediaType != "" && m.MediaType != kind:
		return m, "", moss.Errorf(moss.Invalid, "the manifest is a %s by itself and a %s by the registry", m.MediaType, kind)
	case m.FSLayers != nil, isIndexType(kind) && (m.Config != nil || m.Layers != nil), isImageType(kind) && m.Manifests != nil:
		return m, "", moss.Errorf(moss.Invalid, "the manifest is ambiguous: it has the fields of several kinds")
	}
	for _, d := range slices.Concat(m.Layers, m.Manifests) {
		if err := d.Digest.Validate(); err != nil {
			return m, "", moss.Errorf(moss.Invalid, "digest %q in the manifest: %w", d.Digest, err)
		}
	}
	return m, kind, nil
}

// choose follows the reference to the one image for the platform.
func (p *pulling) choose(ctx context.Context) (chosen, error) {
	c := chosen{}
	b, kind, err := p.manifest(ctx, nil)
	if err != nil {
		return c, err
	}
	c.topDigest = digest.FromBytes(b)
	if by, ok := p.ref.(reference.Digested); ok {
		c.topDigest = by.Digest()
		if c.topDigest.Algorithm().FromBytes(b) != c.topDigest {
			return c, moss.Errorf(moss.Invalid, "manifest verification failed for digest %s", c.topDigest)
		}
	}
	m, kind, err := decodeManifest(b, kind)
	switch {
	case err != nil:
		return c, err
	case !isIndexType(kind):
		c.digest, c.raw, c.man = c.topDigest, b, m
		return c, p.isImage(m, kind)
	}
	c.index = b
	return c, p.descend(ctx, &c, m, 0)
}

// descend picks of an index, and of those in it.
func (p *pulling) descend(ctx context.Context, c *chosen, index anyManifest, depth int) error {
	if depth == maxNesting {
		return moss.Errorf(moss.Invalid, "the manifest lists are nested too deeply")
	}
	for _, d := range matching(index.Manifests, p.platform) {
		b, kind, err := p.manifest(ctx, &d.Digest)
		if err != nil {
			return err
		}
		m, kind, err := decodeManifest(b, kind)
		if err != nil {
			return err
		}
		if isIndexType(kind) {
			err := p.descend(ctx, c, m, depth+1)
			if errors.Is(err, errNoMatch) {
				continue
			}
			return err
		}
		c.digest, c.raw, c.man = d.Digest, b, m
		for _, a := range index.Manifests {
			if about, ok := isAttestation(a); ok && about == d.Digest {
				c.attests = append(c.attests, a)
			}
		}
		return p.isImage(m, kind)
	}
	return noMatch(p.platform)
}

// manifest reads a manifest and compares it with its digest, where that is known.
func (p *pulling) manifest(ctx context.Context, instance *digest.Digest) (b []byte, kind string, err error) {
	err = p.try(ctx, func() (err error) {
		b, kind, err = p.src.Manifest(ctx, instance)
		if err == nil && instance != nil && instance.Algorithm().FromBytes(b) != *instance {
			err = moss.Errorf(moss.Invalid, "manifest verification failed for digest %s", *instance)
		}
		return err
	})
	return b, kind, err
}

// configTypes are those of images; the last ones are of old registries and clients, as docker takes them.
var configTypes = []string{imgspec.MediaTypeImageConfig, manifest.DockerV2Schema2ConfigMediaType, "application/octet-stream", "application/json", "text/html", ""}

// layerTypes are those that hold a tar; how it is compressed is seen in the stream.
var layerTypes = []string{
	manifest.DockerV2Schema2LayerMediaType, manifest.DockerV2SchemaLayerMediaTypeUncompressed, "application/vnd.docker.image.rootfs.diff.tar.zstd",
	manifest.DockerV2Schema2ForeignLayerMediaType, manifest.DockerV2Schema2ForeignLayerMediaTypeGzip,
	imgspec.MediaTypeImageLayer, imgspec.MediaTypeImageLayerGzip, imgspec.MediaTypeImageLayerZstd,
	imgspec.MediaTypeImageLayerNonDistributable,     //nolint:staticcheck // out of favour, and still to be read
	imgspec.MediaTypeImageLayerNonDistributableGzip, //nolint:staticcheck // the same
	imgspec.MediaTypeImageLayerNonDistributableZstd, //nolint:staticcheck // the same
}

// isImage refuses what cannot be run.
func (p *pulling) isImage(m anyManifest, kind string) error {
	name := reference.TrimNamed(p.ref).Name()
	switch {
	case isSchema1Type(kind):
		return moss.Errorf(moss.Invalid, "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of %s to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/", name)
	case !isImageType(kind):
		return moss.Errorf(moss.Invalid, "unsupported manifest media type %q", kind)
	case m.Config == nil:
		return moss.Errorf(moss.Invalid, "the manifest names no configuration")
	case m.ArtifactType != "" && !slices.Contains(configTypes, m.Config.MediaType):
		return artifact(name, m.ArtifactType)
	case !slices.Contains(configTypes, m.Config.MediaType):
		return artifact(name, m.Config.MediaType)
	}
	if m.Config.Digest.Validate() != nil || m.Config.Digest.Algorithm() != digest.SHA256 {
		return moss.Errorf(moss.Invalid, "digest %q of the configuration is not a sha256", m.Config.Digest)
	}
	for _, l := range m.Layers {
		if strings.HasSuffix(l.MediaType, "+encrypted") {
			return moss.Errorf(moss.NotImplemented, "layer %s is encrypted, which moss does not read; decrypt the image with skopeo copy", shortDigest(l.Digest))
		}
		if !slices.Contains(layerTypes, l.MediaType) {
			return moss.Errorf(moss.Invalid, "layer %s is of type %q, which is no root file system's", shortDigest(l.Digest), l.MediaType)
		}
	}
	return nil
}

func artifact(name, kind string) error {
	return moss.Errorf(moss.Invalid, "%s is no image but an artifact of type %q: it has no root file system; fetch it with a tool for artifacts, such as oras", name, kind)
}

// vouched asks the signature policy for the image. Where it does not let the
// image in, a signature of the index that names it by its digest does.
func (p *pulling) vouched(ctx context.Context, c chosen) error {
	check := func(instance *digest.Digest) error {
		return p.try(ctx, func() error { return p.src.Allowed(ctx, instance) })
	}
	if c.index == nil {
		return check(nil)
	}
	err := check(&c.digest)
	if moss.ClassOf(err) != moss.Forbidden {
		return err
	}
	if check(nil) == nil {
		return nil
	}
	return err
}

// decodePulled reads the configuration of an image with those layers.
func decodePulled(b []byte, layers []imgspec.Descriptor) (moss.Image, []digest.Digest, error) {
	im, err := decodeConfig(b)
	if err != nil {
		return im, nil, &moss.Error{Class: moss.Invalid, Err: err}
	}
	var doc struct {
		RootFS *rootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(b, &doc); err != nil || doc.RootFS == nil || doc.RootFS.Type != "layers" {
		return im, nil, moss.Errorf(moss.Invalid, "invalid rootfs in image configuration: this is no image that can be run")
	}
	diffs := doc.RootFS.DiffIDs
	if len(diffs) != len(layers) {
		return im, nil, moss.Errorf(moss.Invalid, "layers from manifest don't match image configuration: %d and %d", len(layers), len(diffs))
	}
	for _, d := range diffs {
		if d.Validate() != nil || d.Algorithm() != digest.SHA256 { // in this order: what has no colon panics
			return im, nil, moss.Errorf(moss.Invalid, "diff id %q of the configuration is not a sha256", d)
		}
	}
	return im, diffs, nil
}

func shortDigest(d digest.Digest) string {
	_, hex, _ := strings.Cut(string(d), ":")
	return fmt.Sprintf("%.12s", hex)
}
