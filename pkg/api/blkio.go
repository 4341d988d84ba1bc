package api

import (
	"path"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"github.com/moss-containers/moss/pkg/moss"
)

// deviceLimits reads the limits of single block devices.
func (d *createDecoder) deviceLimits() error {
	in, out := &d.in.HostConfig.Resources, &d.out.Host
	add := func(kind moss.DeviceLimitKind, device string, value uint64) error {
		if !strings.HasPrefix(device, "/dev/") || path.Clean(device) != device {
			return invalid("bad format for device path: %s", device)
		}
		if value == 0 {
			return invalid("invalid block I/O limit of %s: it must be greater than 0", device)
		}
		out.DeviceLimits = append(out.DeviceLimits, moss.DeviceLimit{Device: device, Kind: kind, Value: value})
		return nil
	}
	for _, w := range in.BlkioWeightDevice {
		if w == nil {
			continue
		}
		if w.Weight < 10 || w.Weight > 1000 {
			return invalid("invalid weight for device: %s: range of blkio weight is from 10 to 1000", w.Path)
		}
		if err := add(moss.DeviceWeight, w.Path, uint64(w.Weight)); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		kind moss.DeviceLimitKind
		of   []*blkiodev.ThrottleDevice
	}{
		{moss.DeviceReadBps, in.BlkioDeviceReadBps},
		{moss.DeviceWriteBps, in.BlkioDeviceWriteBps},
		{moss.DeviceReadIOps, in.BlkioDeviceReadIOps},
		{moss.DeviceWriteIOps, in.BlkioDeviceWriteIOps},
	} {
		for _, l := range list.of {
			if l == nil {
				continue
			}
			if err := add(list.kind, l.Path, l.Rate); err != nil {
				return err
			}
		}
	}
	return nil
}

func encodeDeviceLimits(out *container.Resources, limits []moss.DeviceLimit) {
	for _, l := range limits {
		rate := &blkiodev.ThrottleDevice{Path: l.Device, Rate: l.Value}
		switch l.Kind {
		case moss.DeviceWeight:
			out.BlkioWeightDevice = append(out.BlkioWeightDevice, &blkiodev.WeightDevice{Path: l.Device, Weight: uint16(l.Value)})
		case moss.DeviceReadBps:
			out.BlkioDeviceReadBps = append(out.BlkioDeviceReadBps, rate)
		case moss.DeviceWriteBps:
			out.BlkioDeviceWriteBps = append(out.BlkioDeviceWriteBps, rate)
		case moss.DeviceReadIOps:
			out.BlkioDeviceReadIOps = append(out.BlkioDeviceReadIOps, rate)
		case moss.DeviceWriteIOps:
			out.BlkioDeviceWriteIOps = append(out.BlkioDeviceWriteIOps, rate)
		}
	}
}
