package registry

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	"github.com/containers/image/v5/manifest"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxConfig is how large a configuration may be.
const maxConfig = 8 << 20

// Distribution tells what a registry has under a name: of an index the
// platforms, of a single image that of its configuration.
func (c *Client) Distribution(ctx context.Context, ref string, cred moss.Credentials) (d moss.Distribution, err error) {
	s, err := c.Open(ctx, ref, cred)
	if err != nil {
		return d, err
	}
	defer s.Close()
	b, kind, err := s.Manifest(ctx, nil)
	if err != nil {
		return d, err
	}
	if kind == "" || kind == "application/json" || kind == "text/plain" {
		kind = manifest.GuessMIMEType(b)
	}
	d = moss.Distribution{MediaType: kind, Digest: digest.FromBytes(b).String(), Size: int64(len(b))}
	var any struct {
		Manifests []imgspec.Descriptor `json:"manifests"`
		Config    imgspec.Descriptor   `json:"config"`
	}
	if err := json.Unmarshal(b, &any); err != nil {
		return d, moss.Errorf(moss.Invalid, "the manifest of %s cannot be read: %w", ref, err)
	}
	if manifest.MIMETypeIsMultiImage(kind) {
		for _, m := range any.Manifests {
			if m.Platform != nil {
				d.Platforms = append(d.Platforms, platform(*m.Platform))
			}
		}
		return d, nil
	}
	switch any.Config.MediaType {
	case imgspec.MediaTypeImageConfig, manifest.DockerV2Schema2ConfigMediaType:
	default:
		return d, nil // an artifact has no platform
	}
	p, err := s.platform(ctx, any.Config)
	if err == nil && p.OS != "" {
		d.Platforms = []string{platform(p)}
	}
	return d, err
}

// platform reads it of a configuration.
func (s *Source) platform(ctx context.Context, config imgspec.Descriptor) (p imgspec.Platform, err error) {
	if err := config.Digest.Validate(); err != nil { // the digest's methods panic for what is none
		return p, moss.Errorf(moss.Invalid, "digest %q of the configuration: %w", config.Digest, err)
	}
	r, _, err := s.Blob(ctx, config.Digest, config.Size, nil)
	if err != nil {
		return p, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxConfig))
	if err != nil {
		return p, err
	}
	if config.Digest.Algorithm().FromBytes(b) != config.Digest {
		return p, moss.Errorf(moss.Invalid, "the configuration %s does not match its digest", config.Digest)
	}
	return p, json.Unmarshal(b, &p)
}

func platform(p imgspec.Platform) string {
	return strings.TrimSuffix(strings.Join([]string{p.OS, p.Architecture, p.Variant}, "/"), "/")
}
