package runtime

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/pkg/moss"
)

// defaultShmSize is docker's, in bytes.
const defaultShmSize = 64 << 20

// ttyGroup is the group of terminals, by convention of the distributions.
const ttyGroup = 5

// systemMounts are /proc, /dev, /sys and what belongs below them. A file system
// of a namespace can be mounted only by the user namespace that owns it: where
// the container shares the host's, the host's mount is bound instead.
func systemMounts(b moss.Bundle, env Environment) []specs.Mount {
	h := b.Container.Host
	proc := specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}
	if h.PidMode == "host" {
		proc = hostMount("/proc", "rbind", "nosuid", "noexec", "nodev")
	}
	pts := specs.Mount{
		Destination: "/dev/pts", Type: "devpts", Source: "devpts",
		Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"},
	}
	if env.IDs > ttyGroup {
		pts.Options = append(pts.Options, fmt.Sprintf("gid=%d", ttyGroup))
	}
	access := "ro"
	if h.Privileged {
		access = "rw"
	}
	sys := specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", access}}
	if b.Attachment.NetNS == "" || b.Container.IDMaps != nil { // the host's, or one that is the engine's user namespace's
		sys = hostMount("/sys", "rbind", "nosuid", "noexec", "nodev", "r"+access) // also what is mounted below
	}
	mounts := []specs.Mount{
		proc,
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		pts,
		sys,
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{access, "nosuid", "noexec", "nodev"}},
	}
	return append(mounts, ipcMounts(b, env)...)
}

func ipcMounts(b moss.Bundle, env Environment) []specs.Mount {
	h := b.Container.Host
	mqueue := specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}
	if b.Shm != "" { // others have it too
		return []specs.Mount{mqueue, {Destination: "/dev/shm", Type: "bind", Source: b.Shm, Options: []string{"bind", "nosuid", "noexec", "nodev", "rprivate"}}}
	}
	switch h.IpcMode {
	case "host":
		out := []specs.Mount{hostMount("/dev/shm", "rbind", "nosuid", "noexec", "nodev")}
		if env.Mqueue {
			out = append(out, hostMount("/dev/mqueue", "rbind", "nosuid", "noexec", "nodev"))
		}
		return out
	case "none":
		return []specs.Mount{
			mqueue,
		}
	}
	size := h.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	return []specs.Mount{
		mqueue,
		{
			Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)},
		},
	}
}

func hostMount(path string, options ...string) specs.Mount {
	return specs.Mount{Destination: path, Type: "bind", Source: path, Options: options}
}

// fileMounts are the files in /etc that the engine writes. A mount of the
// user's own over one of them wins.
func fileMounts(b moss.Bundle) []specs.Mount {
	var out []specs.Mount
	for _, f := range []struct{ target, source string }{
		{"/etc/resolv.conf", b.Resolv}, {"/etc/hostname", b.Hostname}, {"/etc/hosts", b.Hosts},
	} {
		taken := slices.ContainsFunc(b.Container.Mounts, func(m moss.MountPoint) bool { return path.Clean(m.Target) == f.target })
		if f.source == "" || taken {
			continue
		}
		m := specs.Mount{Destination: f.target, Type: "bind", Source: f.source, Options: []string{"rbind", "rprivate"}}
		if b.Container.Host.ReadonlyRootfs {
			m.Options = append(m.Options, "ro")
		}
		out = append(out, m)
	}
	return out
}

// userMounts are the mounts asked for, and the propagation that the root must
// have for them. They may take the place of system mounts.
func userMounts(points []moss.MountPoint) ([]specs.Mount, string, error) {
	var out []specs.Mount
	root := ""
	seen := map[string]bool{}
	for _, p := range points {
		target := path.Clean(p.Target)
		if !path.IsAbs(target) || target == "/" {
			return nil, "", moss.Errorf(moss.Invalid, "invalid mount target %q: it must be an absolute path other than /", p.Target)
		}
		if seen[target] {
			return nil, "", moss.Errorf(moss.Invalid, "Duplicate mount point: %s", target)
		}
		seen[target] = true
		var m specs.Mount
		var err error
		switch p.Type {
		case moss.MountBind:
			m, err = bindMount(p)
		case moss.MountTmpfs:
			m = tmpfsMount(p)
		default:
			err = moss.Errorf(moss.NotImplemented, "mount type %q of %s is not supported; use a bind or a tmpfs", p.Type, target)
		}
		if err != nil {
			return nil, "", err
		}
		m.Destination = target
		out = append(out, m)
		switch p.Propagation {
		case "shared", "rshared":
			root = "shared"
		case "slave", "rslave":
			if root == "" {
				root = "rslave"
			}
		}
	}
	return out, root, nil
}

func bindMount(p moss.MountPoint) (specs.Mount, error) {
	if !path.IsAbs(p.Source) {
		return specs.Mount{}, moss.Errorf(moss.Invalid, "invalid mount config for type \"bind\": source %q is not an absolute path", p.Source)
	}
	propagation := p.Propagation
	switch propagation {
	case "":
		propagation = "rprivate"
	case "private", "rprivate", "shared", "rshared", "slave", "rslave":
	default:
		return specs.Mount{}, moss.Errorf(moss.Invalid, "invalid mount config for type \"bind\": invalid propagation mode %q", p.Propagation)
	}
	m := specs.Mount{Type: "bind", Source: path.Clean(p.Source)}
	switch {
	case p.NonRecursive && p.ReadOnly:
		m.Options = []string{"bind", "ro", propagation}
	case p.NonRecursive:
		m.Options = []string{"bind", propagation}
	case p.ReadOnly && p.ReadOnlyTop:
		m.Options = []string{"rbind", "ro", propagation}
	case p.ReadOnly:
		// Also what is mounted below the source.
		m.Options = []string{"rbind", "rro", propagation}
	default:
		m.Options = []string{"rbind", propagation}
	}
	return m, nil
}

// tmpfsMount gives docker's options unless the user's say the opposite.
func tmpfsMount(p moss.MountPoint) specs.Mount {
	var given []string
	if p.TmpfsOptions != "" {
		given = strings.Split(p.TmpfsOptions, ",")
	}
	var options []string
	for _, pair := range [][2]string{{"noexec", "exec"}, {"nosuid", "suid"}, {"nodev", "dev"}} {
		if !slices.Contains(given, pair[1]) && !slices.Contains(given, pair[0]) {
			options = append(options, pair[0])
		}
	}
	options = append(options, "rprivate")
	if p.ReadOnly && !slices.Contains(given, "ro") {
		options = append(options, "ro")
	}
	return specs.Mount{Type: "tmpfs", Source: "tmpfs", Options: append(options, given...)}
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }
