package units

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	sd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/moss-containers/moss/pkg/moss"
)

// deviceValue is the value of a device in a property of type a(st).
type deviceValue struct {
	Path  string
	Value uint64
}

var deviceProperty = map[moss.DeviceLimitKind]string{
	moss.DeviceWeight: "IODeviceWeight", moss.DeviceReadBps: "IOReadBandwidthMax", moss.DeviceWriteBps: "IOWriteBandwidthMax",
	moss.DeviceReadIOps: "IOReadIOPSMax", moss.DeviceWriteIOps: "IOWriteIOPSMax",
}

// deviceProperties are the limits of single block devices; of two for one
// device the last counts.
func deviceProperties(limits []moss.DeviceLimit) ([]sd.Property, error) {
	var order []string
	values := map[string][]deviceValue{}
	for _, l := range limits {
		name, ok := deviceProperty[l.Kind]
		if !ok {
			return nil, moss.Errorf(moss.Invalid, "invalid limit %q of device %s", l.Kind, l.Device)
		}
		v := deviceValue{l.Device, l.Value}
		if l.Kind == moss.DeviceWeight {
			v.Value = ioWeight(uint16(min(l.Value, 1000)))
		}
		if len(values[name]) == 0 {
			order = append(order, name)
		}
		values[name] = append(values[name], v)
	}
	var p []sd.Property
	for _, name := range order {
		p = append(p, prop(name, values[name]))
	}
	return p, nil
}

// ioWeight maps cgroup v1's 10…1000 onto 1…10000.
func ioWeight(w uint16) uint64 { return 1 + (uint64(max(w, 10))-10)*9999/990 }

// CheckDevices refuses limits of what is no block device: the manager would
// drop them with a line in its log. It implements the engine's port.
func (m *Manager) CheckDevices(limits []moss.DeviceLimit) error {
	var errs []error
	for _, l := range limits {
		switch st, err := os.Stat(l.Device); {
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("%s: no such file or directory", l.Device))
		case err != nil:
			errs = append(errs, err)
		case st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0:
			errs = append(errs, fmt.Errorf("%s is not a block device", l.Device))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return moss.Errorf(moss.Invalid, "cannot limit block I/O: %w", err)
	}
	return nil
}
