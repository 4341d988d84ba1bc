package main

import (
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
		if strings.HasPrefix(b, ".") {
			src, rest, _ := strings.Cut(b, ":")
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
	for part := range strings.SplitSeq(s, ",") {
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
