package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"
)

// addDeviceLimits reads the limits of single block devices, DEVICE:VALUE.
func addDeviceLimits(c *cli.Context, h *container.HostConfig) error {
	number := func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }
	size := func(s string) (uint64, error) {
		n, err := units.RAMInBytes(s)
		return uint64(max(n, 0)), err
	}
	for _, l := range []struct {
		flag string
		read func(string) (uint64, error)
		to   *[]*blkiodev.ThrottleDevice
	}{
		{"device-read-bps", size, &h.BlkioDeviceReadBps},
		{"device-write-bps", size, &h.BlkioDeviceWriteBps},
		{"device-read-iops", number, &h.BlkioDeviceReadIOps},
		{"device-write-iops", number, &h.BlkioDeviceWriteIOps},
	} {
		for _, s := range c.StringSlice(l.flag) {
			device, value, err := deviceValue(s, l.read)
			if err != nil {
				return fmt.Errorf("cannot use --%s: %w", l.flag, err)
			}
			*l.to = append(*l.to, &blkiodev.ThrottleDevice{Path: device, Rate: value})
		}
	}
	for _, s := range c.StringSlice("blkio-weight-device") {
		device, value, err := deviceValue(s, number)
		if err != nil || value > 1000 {
			return fmt.Errorf("cannot use --blkio-weight-device %q: want DEVICE:WEIGHT, 10 to 1000", s)
		}
		h.BlkioWeightDevice = append(h.BlkioWeightDevice, &blkiodev.WeightDevice{Path: device, Weight: uint16(value)})
	}
	return nil
}

func deviceValue(s string, read func(string) (uint64, error)) (string, uint64, error) {
	device, text, ok := strings.Cut(s, ":")
	if !ok || !strings.HasPrefix(device, "/dev/") {
		return "", 0, fmt.Errorf("bad format: %s", s)
	}
	value, err := read(text)
	if err != nil || value == 0 {
		return "", 0, fmt.Errorf("invalid rate for device: %s", s)
	}
	return device, value, nil
}
