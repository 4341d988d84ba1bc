package units_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/units"
)

func TestDevices(t *testing.T) { porttest.Devices(t, new(units.Manager)) }
