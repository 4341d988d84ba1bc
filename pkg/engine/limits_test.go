package engine_test

import (
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// A limit that nobody would enforce is told of, as docker does.
func TestLimitsWithoutAControllerAreToldOf(t *testing.T) {
	r := newRig(t, false)
	for want, limits := range map[string]moss.Resources{
		"":                 {},
		"PIDs limit":       {PidsLimit: 5},
		"memory limit":     {Memory: 1 << 20, NanoCPUs: 1e9}, // the machine has the cpu controller
		"cpuset":           {CpusetCpus: "0"},
		"block I/O weight": {BlkioWeight: 10},
	} {
		_, warnings, err := r.Containers().Create(t.Context(), moss.CreateRequest{
			Config: moss.ContainerConfig{Image: "box", Cmd: []string{"true"}}, Host: moss.HostConfig{Resources: limits},
		})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(warnings, "\n")
		if (want == "") != (got == "") || !strings.Contains(got, want) || strings.Contains(got, "CPU") {
			t.Errorf("%+v: %q, want %q", limits, got, want)
		}
	}
}

// A limit of a device that is none is refused before anything is made, also
// where there is no controller to limit it.
func TestLimitsOfDevicesThatAreNone(t *testing.T) {
	r := newRig(t, false)
	for _, device := range []string{"/dev/nosuch", "/dev/null"} {
		_, warnings, err := r.Containers().Create(t.Context(), moss.CreateRequest{
			Config: moss.ContainerConfig{Image: "box", Cmd: []string{"true"}},
			Host:   moss.HostConfig{DeviceLimits: []moss.DeviceLimit{{Device: device, Kind: moss.DeviceReadBps, Value: 1}}},
		})
		if moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), device) || warnings != nil {
			t.Errorf("%s: %q, %v", device, warnings, err)
		}
	}
	r.checkEmpty()
}
