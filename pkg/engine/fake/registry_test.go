package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

// registry is a fake registry from outside.
type registry struct{ r *fake.Registry }

func (r registry) Host() string                                { return r.r.Host() }
func (r registry) PutBlob(_ *testing.T, repo string, b []byte) { r.r.PutBlob(repo, b) }
func (r registry) PutManifest(_ *testing.T, repo, tag, mediaType string, b []byte) {
	r.r.PutManifest(repo, tag, mediaType, b)
}
func (r registry) Manifest(_ *testing.T, repo, ref string) []byte { return r.r.Manifest(repo, ref) }

func emptyImages(t *testing.T) (*fake.Images, porttest.ImagesFixture) {
	s := fake.NewImages(fake.NewRootfs(t.TempDir()))
	return s, porttest.ImagesFixture{Images: s, Archives: s}
}

func TestTransfers(t *testing.T) {
	porttest.ImageTransfers(t, func(t *testing.T) porttest.TransfersFixture {
		images, f := emptyImages(t)
		r := fake.NewRegistry("registry.example.com", images)
		return porttest.TransfersFixture{ImagesFixture: f, Transfers: r, Registry: registry{r}, Another: func(t *testing.T) porttest.TransfersFixture {
			images, f := emptyImages(t)
			return porttest.TransfersFixture{ImagesFixture: f, Transfers: r.For(images), Registry: registry{r}}
		}}
	})
}

func TestRegistries(t *testing.T) {
	porttest.Registries(t, func(t *testing.T) porttest.RegistriesFixture {
		images, _ := emptyImages(t)
		r := fake.NewRegistry("registry.example.com", images)
		r.Require("me", "secret")
		return porttest.RegistriesFixture{
			Registries: r, Registry: registry{r}, Good: moss.Credentials{Username: "me", Password: "secret", ServerAddress: r.Host()},
			Offer: func(_ *testing.T, repo string) { r.Offer(moss.SearchResult{Name: r.Host() + "/" + repo}) },
		}
	})
}

func TestSaver(t *testing.T) {
	porttest.ImageSaver(t, func(t *testing.T) porttest.SaverFixture {
		s, f := emptyImages(t)
		return porttest.SaverFixture{ImagesFixture: f, Saver: s}
	})
}

func TestMaker(t *testing.T) {
	porttest.ImageMaker(t, func(t *testing.T) porttest.MakerFixture {
		s, f := emptyImages(t)
		return porttest.MakerFixture{ImagesFixture: f, Maker: s, Attest: func(_ *testing.T, id moss.ImageID, list ...moss.Attestation) { s.Attest(id, list...) }}
	})
}

func TestSpace(t *testing.T) {
	porttest.ImageSpace(t, func(t *testing.T) porttest.SpaceFixture {
		s, f := emptyImages(t)
		return porttest.SpaceFixture{ImagesFixture: f, Space: s, Strand: func(*testing.T) { s.Strand("sha256:half", 1000) }, Copy: func(_ *testing.T, id moss.ImageID) func() { return s.Copy(id) }}
	})
}
