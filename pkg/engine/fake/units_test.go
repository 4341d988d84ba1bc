package fake_test

import (
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/engine/fake"
	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/moss"
)

type unitsRig struct{ u *fake.Units }

func (r unitsRig) Units() engine.Units { return r.u }

func (r unitsRig) Spec(_ *testing.T, id moss.ContainerID, fails bool) moss.UnitSpec {
	arg := "/bin/launch"
	if fails {
		arg = "/bin/fail"
	}
	return moss.UnitSpec{ID: id, Launch: moss.Launch{Args: []string{arg}}}
}

func (r unitsRig) Exit(_ *testing.T, id moss.ContainerID, code int) { r.u.Exit(id, code) }
func (r unitsRig) Stop(_ *testing.T, id moss.ContainerID)           { r.u.Stop(id) }
func (r unitsRig) Disconnect(*testing.T)                            { r.u.Retell() }

func TestUnits(t *testing.T) {
	porttest.Units(t, func(*testing.T) porttest.UnitsRig {
		u := fake.NewUnits()
		u.OnStart = fake.LauncherFails
		return unitsRig{u}
	})
}

func TestFreezer(t *testing.T) {
	porttest.Freezer(t, func(*testing.T) porttest.UnitsRig { return unitsRig{fake.NewUnits()} })
}

func (r unitsRig) Meter() engine.Meter { return r.u }

type meterRig struct{ unitsRig }

func (r meterRig) Start(t *testing.T) (moss.ContainerID, int) {
	id := moss.ContainerID(moss.NewHexID())
	st, err := r.u.Start(t.Context(), r.Spec(t, id, false))
	if err != nil {
		t.Fatal(err)
	}
	return id, st.PID
}

func TestMeter(t *testing.T) {
	porttest.Meter(t, func(*testing.T) porttest.MeterRig { return meterRig{unitsRig{fake.NewUnits()}} })
}

func (r unitsRig) MemoryLimit(_ *testing.T, id moss.ContainerID) int64 {
	spec, _ := r.u.Spec(id)
	return spec.Resources.Memory
}

func TestLimiter(t *testing.T) {
	porttest.Limiter(t, func(*testing.T) porttest.LimiterRig { return unitsRig{fake.NewUnits()} })
}

func (r unitsRig) OOMInside(_ *testing.T, id moss.ContainerID) { r.u.OOMInside(id) }
func (r unitsRig) Again(*testing.T) engine.Units               { return r.u }

func TestOOM(t *testing.T) {
	porttest.OOM(t, func(*testing.T) porttest.OOMRig { return unitsRig{fake.NewUnits()} })
}

func TestUnitHistory(t *testing.T) {
	porttest.UnitHistory(t, func(*testing.T) porttest.UnitsRig { return unitsRig{fake.NewUnits()} })
}

func TestDevices(t *testing.T) { porttest.Devices(t, fake.NewUnits()) }
