package image

import (
	"context"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// maxAttested bounds what is kept of all statements about an image together.
const maxAttested = 16 << 20

// statements fetches what the attestation manifests say. An image is as good
// without: what fails is logged.
func (p *pulling) statements(ctx context.Context, manifests []imgspec.Descriptor) (all []moss.Attestation) {
	left := int64(maxAttested)
	for _, d := range manifests {
		man, _, err := p.manifest(ctx, &d.Digest)
		var list []moss.Attestation
		if err == nil {
			list, err = readAttestations(man, func(d imgspec.Descriptor) ([]byte, error) {
				b, err := p.small(ctx, d, left)
				left -= int64(len(b))
				return b, err
			})
		}
		if err != nil {
			if ctx.Err() == nil {
				p.s.log.Warn("attestations of an image are not kept", "image", p.ref.String(), "manifest", d.Digest, "error", err)
			}
			continue
		}
		all = append(all, list...)
	}
	return all
}
