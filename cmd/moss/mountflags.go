package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/urfave/cli/v2"
)

func addMounts(c *cli.Context, h *container.HostConfig) error {
	for i, b := range h.Binds { // docker's client makes relative host paths absolute
		if src, rest, named := strings.Cut(b, ":"); named && strings.HasPrefix(b, ".") {
			abs, err := filepath.Abs(src)
			if err != nil {
				return err
			}
			h.Binds[i] = abs + ":" + rest
		}
	}
	for _, t := range c.StringSlice("tmpfs") {
		path, options, _ := strings.Cut(t, ":")
		if h.Tmpfs == nil {
			h.Tmpfs = make(map[string]string)
		}
		h.Tmpfs[path] = options
	}
	for _, m := range c.StringSlice("mount") {
		parsed, err := parseMount(m)
		if err != nil {
			return err
		}
		h.Mounts = append(h.Mounts, parsed)
	}
	return nil
}

// parseMount reads docker's --mount: comma-separated settings.
func parseMount(s string) (mount.Mount, error) {
	m := mount.Mount{Type: mount.TypeVolume}
	bad := func(why string) (mount.Mount, error) {
		return m, fmt.Errorf("cannot use --mount %q: %s", s, why)
	}
	parts, err := csv.NewReader(strings.NewReader(s)).Read() // a setting with commas is put in quotes
	if err != nil {
		return bad(err.Error())
	}
	for _, part := range parts {
		key, value, valued := strings.Cut(part, "=")
		switch strings.ToLower(key) {
		case "type":
			m.Type = mount.Type(strings.ToLower(value))
		case "source", "src":
			m.Source = value
			if strings.HasPrefix(value, ".") {
				abs, err := filepath.Abs(value)
				if err != nil {
					return bad(err.Error())
				}
				m.Source = abs
			}
		case "target", "destination", "dst":
			m.Target = value
		case "readonly", "ro":
			yes, err := strconv.ParseBool(value)
			if valued && err != nil {
				return bad(fmt.Sprintf("%q is neither true nor false", value))
			}
			m.ReadOnly = !valued || yes
		case "bind-propagation":
			bindOptions(&m).Propagation = mount.Propagation(value)
		case "bind-nonrecursive":
			bindOptions(&m).NonRecursive = value == "" || value == "true"
		case "bind-create-src":
			bindOptions(&m).CreateMountpoint = value == "" || value == "true"
		case "bind-recursive":
			o := bindOptions(&m)
			switch value {
			case "enabled":
			case "disabled":
				o.NonRecursive = true
			case "writable":
				o.ReadOnlyNonRecursive = true
			case "readonly":
				o.ReadOnlyForceRecursive = true
			default:
				return bad(fmt.Sprintf("%q is none of enabled, disabled, writable, readonly", value))
			}
		case "consistency":
			m.Consistency = mount.Consistency(strings.ToLower(value))
		case "image-subpath":
			if m.ImageOptions == nil {
				m.ImageOptions = new(mount.ImageOptions)
			}
			m.ImageOptions.Subpath = value
		case "volume-nocopy":
			volumeOptions(&m).NoCopy = value == "" || value == "true"
		case "volume-subpath":
			volumeOptions(&m).Subpath = value
		case "volume-label":
			o := volumeOptions(&m)
			if o.Labels == nil {
				o.Labels = make(map[string]string)
			}
			k, v, _ := strings.Cut(value, "=")
			o.Labels[k] = v
		case "volume-driver":
			volumeDriver(&m).Name = value
		case "volume-opt":
			d := volumeDriver(&m)
			if d.Options == nil {
				d.Options = make(map[string]string)
			}
			k, v, _ := strings.Cut(value, "=")
			d.Options[k] = v
		case "tmpfs-size":
			n, err := units.RAMInBytes(value)
			if err != nil {
				return bad(err.Error())
			}
			tmpfsOptions(&m).SizeBytes = n
		case "tmpfs-mode":
			n, err := strconv.ParseUint(value, 8, 32)
			if err != nil {
				return bad(fmt.Sprintf("%q is no octal mode", value))
			}
			tmpfsOptions(&m).Mode = os.FileMode(n)
		case "idmap":
			return bad("moss does not map the ids of mounts: the kernel lets only root do so on the file systems of a disk; give files to another id with moss unshare chown")
		default:
			return bad(fmt.Sprintf("unknown setting %q", key))
		}
	}
	return m, nil
}

func bindOptions(m *mount.Mount) *mount.BindOptions {
	if m.BindOptions == nil {
		m.BindOptions = new(mount.BindOptions)
	}
	return m.BindOptions
}

func tmpfsOptions(m *mount.Mount) *mount.TmpfsOptions {
	if m.TmpfsOptions == nil {
		m.TmpfsOptions = new(mount.TmpfsOptions)
	}
	return m.TmpfsOptions
}

func volumeOptions(m *mount.Mount) *mount.VolumeOptions {
	if m.VolumeOptions == nil {
		m.VolumeOptions = new(mount.VolumeOptions)
	}
	return m.VolumeOptions
}

func volumeDriver(m *mount.Mount) *mount.Driver {
	o := volumeOptions(m)
	if o.DriverConfig == nil {
		o.DriverConfig = new(mount.Driver)
	}
	return o.DriverConfig
}

// bindsOf are those of -v that name what is mounted; the others are anonymous volumes.
func bindsOf(volumes []string) []string {
	var binds []string
	for _, v := range volumes {
		if strings.Contains(v, ":") {
			binds = append(binds, v)
		}
	}
	return binds
}
