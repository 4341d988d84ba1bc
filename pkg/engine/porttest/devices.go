package porttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moss-containers/moss/pkg/engine"
	"github.com/moss-containers/moss/pkg/moss"
)

// Devices runs the contract suite of [engine.DeviceChecker].
func Devices(t *testing.T, c engine.DeviceChecker) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, none := range []string{"/dev/nosuch", "/dev/null", file, filepath.Dir(file)} {
		err := c.CheckDevices([]moss.DeviceLimit{{Device: none, Kind: moss.DeviceReadBps, Value: 1}})
		if moss.ClassOf(err) != moss.Invalid || !strings.Contains(err.Error(), none) {
			t.Errorf("%s: %v", none, err)
		}
	}
	all, err := filepath.Glob("/dev/*")
	if err != nil {
		t.Fatal(err)
	}
	var limits []moss.DeviceLimit
	for _, path := range all {
		if st, err := os.Stat(path); err == nil && st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0 {
			limits = append(limits, moss.DeviceLimit{Device: path, Kind: moss.DeviceWriteIOps, Value: 1})
		}
	}
	if err := c.CheckDevices(limits); err != nil {
		t.Errorf("of the machine's own block devices: %v", err)
	}
}
