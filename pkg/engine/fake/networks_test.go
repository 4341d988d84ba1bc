package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
)

type networksRig struct{ n *fake.Networks }

func (r networksRig) Networks() engine.Networks        { return r.n }
func (r networksRig) Again(*testing.T) engine.Networks { return r.n.Again() }
func (r networksRig) Busy(*testing.T) uint16           { r.n.Occupy(8080); return 8080 }
func (r networksRig) Privileged(*testing.T) uint16     { return 80 }
func (r networksRig) Left(*testing.T) []string         { return r.n.Left() }

func TestNetworks(t *testing.T) {
	porttest.Networks(t, func(*testing.T) porttest.NetworksRig { return networksRig{fake.NewNetworks()} })
}
