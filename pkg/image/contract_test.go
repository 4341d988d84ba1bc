package image

import (
	"net/http"
	"testing"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/idtools"
	stypes "github.com/containers/storage/types"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/nstest"
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
		f := porttest.SpaceFixture{ImagesFixture: fixtureOf(s), Space: s, Strand: func(t *testing.T) { orphan(t, s, "", "stranded") }}
		if nstest.Full() {
			t.Setenv("_CONTAINERS_OVERLAY_DISABLE_IDMAP", "yes")
			f.Copy = func(t *testing.T, id moss.ImageID) func() { return copied(t, s, id, 1000) }
		}
		return f
	})
}

// copied makes a container that has some ids from the first one on.
func copied(t *testing.T, s *Store, id moss.ImageID, from int) (drop func()) {
	t.Helper()
	ids := []idtools.IDMap{{HostID: from, Size: 500}}
	c, err := s.store.CreateContainer("", nil, hexOf(id), "", "", &storage.ContainerOptions{IDMappingOptions: stypes.IDMappingOptions{UIDMap: ids, GIDMap: ids}})
	must(t, err)
	return func() { must(t, s.store.DeleteContainer(c.ID)) }
}
