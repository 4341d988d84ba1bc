package fake_test

import (
	"errors"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

type recordsRig struct{ fake *fake.Records }

func (r recordsRig) Records() engine.Records                 { return r.fake }
func (r recordsRig) Restart(*testing.T)                      {} // memory is all it has
func (r recordsRig) Reboot(*testing.T)                       { r.fake.Reboot() }
func (r recordsRig) Break(_ *testing.T, id moss.ContainerID) { r.fake.Break(id, errors.New("torn")) }

func TestRecords(t *testing.T) {
	porttest.Records(t, func(*testing.T) porttest.RecordsRig { return recordsRig{fake.NewRecords()} })
}
