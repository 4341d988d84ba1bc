package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
)

func TestVolumes(t *testing.T) {
	porttest.Volumes(t, func(t *testing.T) porttest.VolumeStore { return fake.NewVolumes(t.TempDir()) })
}
