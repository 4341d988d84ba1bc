package image

import (
	"testing"

	"github.com/distribution/reference"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

// FuzzManifest: a registry's answer is refused as the registry's fault, or all its digests are digests.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":"sha256:00"},"layers":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1}]}`), "application/vnd.oci.image.manifest.v1+json")
	f.Add([]byte(`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":""}}`), "application/vnd.oci.image.manifest.v1+json")
	ref, err := reference.ParseNormalizedNamed("x")
	if err != nil {
		f.Fatal(err)
	}
	p := &pulling{ref: ref}
	f.Add([]byte(`{"manifests":[{"platform":{"os":"linux"}}],"fsLayers":null}`), "")
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		m, kind, err := decodeManifest(body, kind)
		if err != nil {
			if moss.ClassOf(err) != moss.Invalid {
				t.Errorf("%v is %v", err, moss.ClassOf(err))
			}
			return
		}
		if err := p.isImage(m, kind); err == nil && m.Config.Digest.Validate() != nil {
			t.Errorf("the configuration is %q", m.Config.Digest)
		}
		if m.FSLayers != nil {
			return
		}
		for _, d := range append(m.Layers, m.Manifests...) {
			if d.Digest != "" && d.Digest.Validate() != nil {
				t.Errorf("digest %q", d.Digest)
			}
		}
	})
}

// FuzzPulled: an image's configuration from a registry.
func FuzzPulled(f *testing.F) {
	f.Add([]byte(`{"os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"config":{"ExposedPorts":{"1-3/tcp":{}}},"history":[{"empty_layer":true}]}`), 1)
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":[""]}}`), 1)
	f.Fuzz(func(t *testing.T, config []byte, layers int) {
		im, ids, err := decodePulled(config, make([]imgspec.Descriptor, uint(layers)%8))
		if err == nil && len(ids) != int(uint(layers)%8) {
			t.Errorf("%d layers have %d ids: %+v", uint(layers)%8, len(ids), im)
		}
	})
}

// FuzzAttestations: statements come from whoever pushed the image.
func FuzzAttestations(f *testing.F) {
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.in-toto+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2,"annotations":{"in-toto.io/predicate-type":"x"}}]}`), []byte(`{"predicateType":"x"}`))
	f.Fuzz(func(t *testing.T, manifest, blob []byte) {
		_, _ = readAttestations(manifest, func(imgspec.Descriptor) ([]byte, error) { return blob, nil })
	})
}
