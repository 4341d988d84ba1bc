package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
)

func openRootfs(t *testing.T) porttest.RootfsFixture {
	r := fake.NewRootfs(t.TempDir())
	r.AddImage("sha256:abc", map[string]string{"hello": "hello\n"})
	return porttest.RootfsFixture{Rootfs: r, Image: "sha256:abc"}
}

func TestRootfs(t *testing.T) { porttest.Rootfs(t, openRootfs) }

func TestRootfsFiles(t *testing.T) { porttest.RootfsFiles(t, openRootfs) }

func TestContainerPaths(t *testing.T) { porttest.ContainerPaths(t, openRootfs) }

func TestImages(t *testing.T) {
	porttest.Images(t, func(t *testing.T) porttest.ImagesFixture {
		s := fake.NewImages(fake.NewRootfs(t.TempDir()))
		return porttest.ImagesFixture{Images: s, Archives: s}
	})
}
