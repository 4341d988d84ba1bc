package units

import (
	"math/rand/v2"
	"testing"

	sd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/moss-containers/moss/pkg/moss"
)

// Whatever limits are asked for: the same gives the same, no property comes twice, and
// each is in the range that systemd.resource-control(5) has for it.
func TestPropertiesInRange(t *testing.T) {
	kinds := []moss.DeviceLimitKind{moss.DeviceWeight, moss.DeviceReadBps, moss.DeviceWriteBps, moss.DeviceReadIOps, moss.DeviceWriteIOps}
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		maybe := func(n int64) int64 {
			if rnd.IntN(2) == 0 {
				return 0
			}
			return rnd.Int64N(n) + 1
		}
		r := moss.Resources{
			Memory: maybe(1 << 40), MemoryReservation: maybe(1 << 40), CPUShares: maybe(1 << 20), PidsLimit: maybe(1<<20) - 1,
			BlkioWeight: uint16(maybe(1000)), CPUPeriod: maybe(1_000_000), CpusetCpus: []string{"", "0", "0-3,7", "5,1"}[rnd.IntN(4)],
		}
		if rnd.IntN(2) == 0 {
			r.NanoCPUs = maybe(64e9)
		} else {
			r.CPUQuota = maybe(1e7)
		}
		switch rnd.IntN(3) {
		case 0:
			r.MemorySwap = -1
		case 1:
			r.MemorySwap = r.Memory + maybe(1<<30)
		}
		spec := moss.UnitSpec{ID: "0123456789ab", Launch: moss.Launch{Args: []string{"/x"}}, Resources: r}
		for range rnd.IntN(5) {
			spec.Devices = append(spec.Devices, moss.DeviceLimit{
				Device: []string{"/dev/a", "/dev/b"}[rnd.IntN(2)], Kind: kinds[rnd.IntN(len(kinds))], Value: uint64(rnd.Int64N(1<<40) + 1),
			})
		}
		props, err := Properties(spec, Options{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		again, _ := Properties(spec, Options{})
		seen := map[string]bool{}
		for i, p := range props {
			if seen[p.Name] {
				t.Errorf("seed %d: %s comes twice", seed, p.Name)
			}
			seen[p.Name] = true
			if again[i].Name != p.Name || again[i].Value.String() != p.Value.String() {
				t.Errorf("seed %d: %s is %s and then %s", seed, p.Name, p.Value, again[i].Value)
			}
			inRange(t, p)
		}
		for name, wanted := range map[string]bool{
			"MemoryMax": r.Memory > 0, "MemoryLow": r.MemoryReservation > 0, "CPUWeight": r.CPUShares > 0, "IOWeight": r.BlkioWeight > 0,
			"CPUQuotaPerSecUSec": r.NanoCPUs > 0 || r.CPUQuota > 0, "AllowedCPUs": r.CpusetCpus != "", "TasksMax": true,
		} {
			if seen[name] != wanted {
				t.Errorf("seed %d: %s is there: %v, want %v for %+v", seed, name, seen[name], wanted, r)
			}
		}
	}
}

func inRange(t *testing.T, p sd.Property) {
	t.Helper()
	switch v := p.Value.Value().(type) {
	case uint64:
		weight := p.Name == "CPUWeight" || p.Name == "IOWeight"
		if weight && (v < 1 || v > 10000) || p.Name == "TasksMax" && v == 0 {
			t.Errorf("%s is %d", p.Name, v)
		}
	case []deviceValue:
		for _, d := range v {
			if d.Value == 0 || p.Name == "IODeviceWeight" && d.Value > 10000 {
				t.Errorf("%s of %s is %d", p.Name, d.Path, d.Value)
			}
		}
	}
}
