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

func TestNetworkMaker(t *testing.T) {
	porttest.NetworkMaker(t, func(*testing.T) porttest.NetworksRig { return networksRig{fake.NewNetworks()} })
}

type networkRecordsRig struct{ r *fake.NetworkRecords }

func (r networkRecordsRig) NetworkRecords() engine.NetworkRecords { return r.r }
func (r networkRecordsRig) Reboot(*testing.T)                     {}

func TestNetworkRecords(t *testing.T) {
	porttest.NetworkRecords(t, func(*testing.T) porttest.NetworkRecordsRig { return networkRecordsRig{new(fake.NetworkRecords)} })
}
