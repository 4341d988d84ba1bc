package units

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/moss-containers/moss/pkg/moss"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestPropertiesGolden(t *testing.T) {
	const id = moss.ContainerID("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	launch := moss.Launch{
		Args:    []string{"/usr/bin/moss-runtime", "--root", "/run/user/1000/moss/runtime", "create", string(id)},
		Env:     []string{"_MOSS_JOIN=/run/user/1000/moss/rootless"},
		PIDFile: "/run/user/1000/moss/bundles/" + string(id) + "/pid",
	}
	cases := map[string]struct {
		spec   moss.UnitSpec
		prefix string
	}{
		"plain": {spec: moss.UnitSpec{ID: id, Description: "web (moss/hello)", Launch: launch, StopTimeout: 10 * time.Second}},
		"streams": {spec: moss.UnitSpec{
			ID: id, Description: "web (moss/hello)", Launch: launch, StopSignal: syscall.SIGQUIT, StopTimeout: -1,
			Stdio: moss.ChildStdio{Stdin: openNull(t), Stdout: openNull(t), Stderr: openNull(t)},
		}, prefix: "moss-dev"},
		"limits": {spec: moss.UnitSpec{
			ID: id, Description: "db (postgres)", Launch: launch, OomScoreAdj: 300,
			Resources: moss.Resources{
				Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwap: 96 << 20, NanoCPUs: 1_500_000_000,
				CPUShares: 1024, CpusetCpus: "0-2,9", CpusetMems: "0", PidsLimit: 100, BlkioWeight: 500,
			},
		}},
		"devices": {spec: moss.UnitSpec{ID: id, Launch: launch, Devices: []moss.DeviceLimit{
			{Device: "/dev/sda", Kind: moss.DeviceReadBps, Value: 1 << 20},
			{Device: "/dev/sda", Kind: moss.DeviceWeight, Value: 500},
			{Device: "/dev/sdb", Kind: moss.DeviceReadBps, Value: 2 << 20},
			{Device: "/dev/sdb", Kind: moss.DeviceWriteBps, Value: 3},
			{Device: "/dev/sdb", Kind: moss.DeviceReadIOps, Value: 4},
			{Device: "/dev/sdb", Kind: moss.DeviceWriteIOps, Value: 5},
		}}},
		"quota": {spec: moss.UnitSpec{
			ID: id, Launch: launch, StopTimeout: time.Second,
			Resources: moss.Resources{Memory: 64 << 20, CPUPeriod: 50_000, CPUQuota: 25_000, PidsLimit: -1},
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			props, err := Properties(c.spec, Options{Prefix: c.prefix})
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, p := range props {
				value := p.Value.String()
				if _, ok := p.Value.Value().(dbus.UnixFD); ok {
					value = "(a descriptor)"
				}
				b.WriteString(p.Name + " " + p.Value.Signature().String() + " " + value + "\n")
			}
			golden(t, filepath.Join("testdata", name+".properties"), b.String())
		})
	}
}

func openNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // read only
	return f
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestResourcesRefused(t *testing.T) {
	for _, r := range []moss.Resources{
		{CpusetCpus: "3-1"},
		{CpusetCpus: "x"},
		{CpusetMems: "0,"},
		{CpusetCpus: "99999999"},
		{Memory: 64 << 20, MemorySwap: 32 << 20},
	} {
		if p, err := resourceProperties(r); moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%+v: %v, %v; want Invalid", r, p, err)
		}
	}
}

func TestCPUWeight(t *testing.T) {
	for shares, want := range map[int64]uint64{1: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 40: 10000} {
		if got := cpuWeight(shares); got != want {
			t.Errorf("cpuWeight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestStopTimeout(t *testing.T) {
	for d, want := range map[time.Duration]uint64{-1: 1<<64 - 1, 0: 1000, time.Nanosecond: 1000, 10 * time.Second: 10_000_000} {
		if got := stopTimeout(d); got != want {
			t.Errorf("stopTimeout(%v) = %d, want %d", d, got, want)
		}
	}
}

func TestCheckUlimits(t *testing.T) {
	limit := func(name string) (uint64, bool) { return 1000, name == "nofile" }
	for _, c := range []struct {
		u  moss.Ulimit
		ok bool
	}{
		{moss.Ulimit{Name: "nofile", Soft: 10, Hard: 1000}, true},
		{moss.Ulimit{Name: "nofile", Soft: 10, Hard: 1001}, false},
		{moss.Ulimit{Name: "nofile", Soft: 10, Hard: -1}, false},
		{moss.Ulimit{Name: "what", Soft: 10, Hard: 10}, false},
	} {
		if err := CheckUlimits([]moss.Ulimit{c.u}, limit); (err == nil) != c.ok || err != nil && moss.ClassOf(err) != moss.Invalid {
			t.Errorf("%+v: %v", c.u, err)
		}
	}
}
