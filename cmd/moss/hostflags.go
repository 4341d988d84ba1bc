package main

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/urfave/cli/v2"
)

// addHost carries over what touches the machine itself. What the engine cannot
// do it refuses, with the reason.
func addHost(c *cli.Context, h *container.HostConfig) error {
	if c.IsSet("init") {
		on := c.Bool("init")
		h.Init = &on
	}
	userns, err := usernsMode(c)
	if err != nil {
		return err
	}
	h.UsernsMode, h.CgroupParent, h.Isolation = userns, c.String("cgroup-parent"), container.Isolation(c.String("isolation"))
	h.DeviceCgroupRules = c.StringSlice("device-cgroup-rule")
	for _, d := range c.StringSlice("device") {
		if isCDI(d) {
			h.DeviceRequests = cdiRequest(h.DeviceRequests, d)
			continue
		}
		m, err := deviceMapping(d)
		if err != nil {
			return err
		}
		h.Devices = append(h.Devices, m)
	}
	if err := addDeviceLimits(c, h); err != nil {
		return err
	}
	if g := c.String("gpus"); g != "" {
		h.DeviceRequests = append(h.DeviceRequests, container.DeviceRequest{Count: -1, Capabilities: [][]string{{"gpu"}}})
	}
	if s := c.StringSlice("storage-opt"); len(s) > 0 {
		h.StorageOpt = toMap(s)
	}
	if n := c.Int64("memory-swappiness"); n != -1 {
		h.MemorySwappiness = &n
	}
	if c.Bool("oom-kill-disable") {
		on := true
		h.OomKillDisable = &on
	}
	return addOldLimits(c, h)
}

// addOldLimits carries over the weight, and limits of which most are cgroup v1's.
func addOldLimits(c *cli.Context, h *container.HostConfig) error {
	w := c.Int("blkio-weight")
	if w != 0 && (w < 10 || w > 1000) {
		return fmt.Errorf("cannot use --blkio-weight %d: it must be from 10 to 1000", w)
	}
	h.BlkioWeight = uint16(w)
	h.CPURealtimePeriod, h.CPURealtimeRuntime = c.Int64("cpu-rt-period"), c.Int64("cpu-rt-runtime")
	if s := c.String("kernel-memory"); s != "" {
		if _, err := units.RAMInBytes(s); err != nil {
			return fmt.Errorf("cannot use --kernel-memory: %w", err)
		}
		return errors.New("cannot use --kernel-memory: cgroup v2 has no such limit; use --memory")
	}
	return nil
}

// isCDI says whether it is a device of the Container Device Interface,
// VENDOR/CLASS=DEVICE, for which docker's client asks by name: no path of a device.
func isCDI(d string) bool {
	kind, device, named := strings.Cut(d, "=")
	vendor, class, ok := strings.Cut(kind, "/")
	return named && ok && vendor != "" && vendor[0] != '.' && class != "" && device != "" && !strings.ContainsAny(class, "/:")
}

// cdiRequest adds a device to the one request for such.
func cdiRequest(all []container.DeviceRequest, name string) []container.DeviceRequest {
	for i := range all {
		if all[i].Driver == "cdi" {
			all[i].DeviceIDs = append(all[i].DeviceIDs, name)
			return all
		}
	}
	return append(all, container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{name}})
}

// deviceMapping reads HOST[:CONTAINER[:PERMISSIONS]], or HOST:PERMISSIONS, as
// docker's client does.
func deviceMapping(d string) (container.DeviceMapping, error) {
	m := container.DeviceMapping{CgroupPermissions: "rwm"}
	parts := strings.Split(d, ":")
	if len(parts) > 3 || parts[0] == "" {
		return m, fmt.Errorf("invalid device specification: %s", d)
	}
	m.PathOnHost, m.PathInContainer = parts[0], parts[0]
	if len(parts) == 2 && !path.IsAbs(parts[1]) && strings.Trim(parts[1], "rwm") == "" {
		m.CgroupPermissions = parts[1]
		return m, nil
	}
	if len(parts) > 1 && parts[1] != "" {
		m.PathInContainer = parts[1]
	}
	if len(parts) > 2 {
		m.CgroupPermissions = parts[2]
	}
	return m, nil
}

// usernsMode puts --uidmap and --gidmap into a mode of their own.
func usernsMode(c *cli.Context) (container.UsernsMode, error) {
	uids, gids := c.StringSlice("uidmap"), c.StringSlice("gidmap")
	if len(uids)+len(gids) == 0 {
		return container.UsernsMode(c.String("userns")), nil
	}
	if c.IsSet("userns") {
		return "", &status{125, "the flags --userns and --uidmap or --gidmap exclude each other"}
	}
	var all []string
	for _, m := range uids {
		all = append(all, "uid="+m)
	}
	for _, m := range gids {
		all = append(all, "gid="+m)
	}
	return container.UsernsMode("map:" + strings.Join(all, ",")), nil
}
