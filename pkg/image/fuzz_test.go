package image

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
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

// FuzzAttestations: statements come from whoever pushed the image. Those that are taken
// can be told in an answer, are what their blobs are, no more and no larger than the
// limits, and are read back as they were kept; what is kept may be anything, too.
func FuzzAttestations(f *testing.F) {
	f.Add([]byte(`{"layers":[{"mediaType":"application/vnd.in-toto+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2,"annotations":{"in-toto.io/predicate-type":"x"}}]}`), []byte(`{"predicateType":"x"}`))
	f.Add([]byte(`{"layers":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]}`), []byte(`{"payload":"eyJwcmVkaWNhdGVUeXBlIjoieSJ9"}`))
	f.Add([]byte(`{"layers":[{"digest":"../x","size":-1}]}`), []byte(`[{"predicateType":"x","digest":"y","bytes":"e30="},{"bytes":"ew=="}]`))
	f.Add([]byte(`{"layers":[`+strings.Repeat(`{},`, maxStatements)+`{}]}`), []byte(`[{"predicateType":"x","digest":"y","bytes":"e30="}]`))
	f.Fuzz(func(t *testing.T, manifest, blob []byte) {
		asked := 0
		list, err := readAttestations(manifest, func(d imgspec.Descriptor) ([]byte, error) {
			if asked++; d.Digest.Validate() != nil || d.Size < 0 || d.Size > maxStatement {
				t.Errorf("%q has %d bytes of %q fetched", manifest, d.Size, d.Digest)
			}
			return blob, nil
		})
		if asked > maxStatements || len(list) > asked || err != nil && list != nil {
			t.Errorf("%d statements are fetched and %d taken, %v", asked, len(list), err)
		}
		if err == nil && json.Valid(blob) != (len(list) > 0) && asked > 0 {
			t.Errorf("of %d blobs %q, %d are taken", asked, blob, len(list))
		}
		for _, a := range list {
			if !bytes.Equal(a.Statement, blob) || digest.Digest(a.Digest).Validate() != nil {
				t.Errorf("%q gives %+v", manifest, a)
			}
			if said := predicateType(blob); said != "" && a.PredicateType == "" {
				t.Errorf("%q is of the type %q, and of none", blob, said)
			}
			if _, err := json.Marshal(a); err != nil {
				t.Errorf("%+v cannot be told: %v", a, err)
			}
		}
		kept, err := decodeAttestations(blob)
		for _, some := range [][]moss.Attestation{list, kept} {
			b, err := encodeAttestations(some)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := decodeAttestations(b); err != nil || len(back) != len(some) || len(some) > 0 && !reflect.DeepEqual(back, some) {
				t.Errorf("%+v are read back as %+v, %v", some, back, err)
			}
		}
		if err != nil && kept != nil {
			t.Errorf("%q gives %+v with %v", blob, kept, err)
		}
	})
}
