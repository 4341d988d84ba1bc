package image

import (
	"net/http"
	"testing"

	"github.com/containers/image/v5/manifest"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	testreg "github.com/moss-containers/moss/tests/registry"
)

func fixtureOf(s *Store) porttest.ImagesFixture {
	return porttest.ImagesFixture{Images: s, Archives: s, Leftovers: func(t *testing.T) []string { return leftovers(t, s) }}
}

func TestImages(t *testing.T) {
	porttest.Images(t, func(t *testing.T) porttest.ImagesFixture { return fixtureOf(open(t, t.TempDir())) })
}

func TestImageTransfers(t *testing.T) {
	porttest.ImageTransfers(t, func(t *testing.T) porttest.TransfersFixture {
		r := testreg.New(t, testreg.Options{})
		var another func(t *testing.T) porttest.TransfersFixture
		another = func(t *testing.T) porttest.TransfersFixture {
			s := openReal(t, t.TempDir())
			return porttest.TransfersFixture{ImagesFixture: fixtureOf(s), Transfers: s, Registry: porttest.RegistryAt{Base: "http://" + r.Host, Client: http.DefaultClient}, Another: another}
		}
		return another(t)
	})
}

func TestImageSaver(t *testing.T) {
	porttest.ImageSaver(t, func(t *testing.T) porttest.SaverFixture {
		s := open(t, t.TempDir())
		return porttest.SaverFixture{ImagesFixture: fixtureOf(s), Saver: s}
	})
}

func TestImageMaker(t *testing.T) {
	porttest.ImageMaker(t, func(t *testing.T) porttest.MakerFixture {
		s := open(t, t.TempDir())
		return porttest.MakerFixture{ImagesFixture: fixtureOf(s), Maker: s, Attest: func(t *testing.T, id moss.ImageID, list ...moss.Attestation) {
			data, err := attestationData(list)
			must(t, err)
			must(t, s.store.SetImageBigData(hexOf(id), data[0].Key, data[0].Data, manifest.Digest))
		}}
	})
}

func TestImageSpace(t *testing.T) {
	porttest.ImageSpace(t, func(t *testing.T) porttest.SpaceFixture {
		s := open(t, t.TempDir())
		return porttest.SpaceFixture{ImagesFixture: fixtureOf(s), Space: s, Strand: func(t *testing.T) { orphan(t, s, "", "stranded") }}
	})
}
