// Package bundle turns an OCI bundle into libcontainer's configuration for the
// one situation moss runs in: uid 0 of a user namespace, an unprivileged user
// outside it, cgroup v2 delegated by the user's systemd.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/moss-containers/moss/cmd/moss-runtime/internal/cgroup"
	"github.com/moss-containers/moss/userns"
)

// Options are the choices of create's command line.
type Options struct {
	ID           string
	NoPivot      bool
	NoNewKeyring bool
}

// Config is a bundle made ready for libcontainer.
type Config struct {
	*configs.Config
	Spec      *specs.Spec
	Bundle    string // absolute
	Cgroup    string // below the hierarchy's root
	Inherited bool   // the container stays in the caller's cgroup
	Seccomp   []byte // linux.seccomp as text, see LoadSpec; filter.Cache.Profile makes Config.Seccomp of it

	resources *cgroups.Resources // to be written to an inherited cgroup
}

// noSuchCgroup is a name the kernel refuses to create (EINVAL, whoever asks),
// so nothing is ever there. libcontainer cannot be told that a container's
// cgroup is somebody else's; told to use one that cannot be had, a rootless
// container keeps the cgroup it was started in, which is what is wanted.
const noSuchCgroup = "moss: inherited\n"

// LoadSpec reads config.json of the bundle in dir. The seccomp profile, which
// is most of it and hardly ever has to be read, is left as text.
func LoadSpec(dir string) (spec *specs.Spec, seccomp []byte, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the bundle: %w", err)
	}
	var doc struct {
		specs.Spec
		Linux *struct {
			specs.Linux
			Seccomp json.RawMessage `json:"seccomp"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, nil, fmt.Errorf("cannot read the bundle: config.json: %w", err)
	}
	spec = &doc.Spec
	if doc.Linux == nil {
		return spec, nil, nil
	}
	spec.Linux = &doc.Linux.Linux
	if string(doc.Linux.Seccomp) != "null" {
		seccomp = doc.Linux.Seccomp
	}
	return spec, seccomp, nil
}

// Load reads the bundle in dir and makes it this process's working directory,
// which libcontainer's conversion relies on.
func Load(dir string, opts Options) (*Config, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.Chdir(abs); err != nil {
		return nil, fmt.Errorf("cannot read the bundle: %w", err)
	}
	spec, seccomp, err := LoadSpec(abs)
	if err != nil {
		return nil, err
	}
	if spec.Linux == nil {
		return nil, errors.New("cannot use the bundle: config.json has no linux section")
	}
	if err := CheckProcess(spec.Process); err != nil {
		return nil, err
	}
	if !NestedUserNS(spec) {
		if err := CheckIDs(spec.Process.User); err != nil {
			return nil, err
		}
	}
	own, err := cgroup.Own()
	if err != nil {
		return nil, err
	}
	c := &Config{Spec: spec, Bundle: abs, Seccomp: seccomp}
	c.Inherited = spec.Linux.CgroupsPath == "" || filepath.Clean("/"+spec.Linux.CgroupsPath) == filepath.Clean(own)
	if c.Inherited {
		bindCgroup(spec, own)
	}
	c.Config, err = specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName:      opts.ID,
		NoPivotRoot:     opts.NoPivot,
		NoNewKeyring:    opts.NoNewKeyring,
		Spec:            spec,
		RootlessEUID:    false,
		RootlessCgroups: true,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot use the bundle: %w", err)
	}
	// A device program needs privileges over the initial user namespace, and
	// device nodes cannot be made in any other: there is nothing to guard.
	c.Cgroups.Resources.Devices = nil
	// Written by AdoptOOMScore instead, which knows what may fail.
	c.OomScoreAdj = nil
	c.placeCgroup(own)
	return c, nil
}

// KeepsGroups says whether the container's processes keep the supplementary
// groups that the runtime was started with; the annotation is crun's.
func (c *Config) KeepsGroups() bool {
	value := c.Spec.Annotations["run.oci.keep_original_groups"]
	return value == "1" || value == "true"
}

// bindCgroup replaces the mount of cgroup2 where /sys is the host's, which a
// container in the host's network has to take: the kernel does not mount a file
// system over itself, but the container's part of it can be bound there.
func bindCgroup(spec *specs.Spec, own string) {
	if !slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return filepath.Clean(m.Destination) == "/sys" && m.Type != "sysfs"
	}) {
		return
	}
	for i, m := range spec.Mounts {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			m.Type, m.Source = "bind", cgroup.Dir(own)
			m.Options = append(slices.Clone(m.Options), "rbind")
			spec.Mounts[i] = m
		}
	}
}

// placeCgroup settles where the container lives: in the caller's cgroup if the
// bundle names none or that one, else where the bundle says.
func (c *Config) placeCgroup(own string) {
	if c.Inherited {
		c.Cgroup = own
		if c.Spec.Linux.Resources != nil {
			c.resources = c.Cgroups.Resources
		}
		c.Cgroups = &cgroups.Cgroup{
			Parent: "/", Name: noSuchCgroup, Rootless: true, Resources: &cgroups.Resources{},
		}
		return
	}
	// A relative path is taken from the root of the hierarchy, as crun does.
	c.Cgroup = filepath.Clean("/" + c.Spec.Linux.CgroupsPath)
	c.Cgroups.Path = c.Cgroup
}

// ApplyResources writes the bundle's limits to an inherited cgroup. Limits of a
// unit are better set as the unit's properties: the manager owns these files
// and may write them again. For any other cgroup libcontainer does it.
func (c *Config) ApplyResources() error {
	if c.resources == nil {
		return nil
	}
	return SetResources(c.Cgroup, c.resources)
}

// SetResources writes limits to the cgroup at path.
func SetResources(path string, r *cgroups.Resources) error {
	m, err := fs2.NewManager(&cgroups.Cgroup{Path: path, Rootless: true, Resources: r}, cgroup.Dir(path))
	if err != nil {
		return err
	}
	if err := m.Set(r); err != nil {
		return fmt.Errorf("cannot set the limits of cgroup %s: %w", path, err)
	}
	return nil
}

// Stats reads the figures of the cgroup at path.
func Stats(path string) (*cgroups.Stats, error) {
	m, err := fs2.NewManager(&cgroups.Cgroup{Path: path, Rootless: true, Resources: &cgroups.Resources{}}, cgroup.Dir(path))
	if err != nil {
		return nil, err
	}
	s, err := m.GetStats()
	if err != nil {
		return nil, fmt.Errorf("cannot read the figures of cgroup %s: %w", path, err)
	}
	return s, nil
}

// CheckIDs refuses a user or group that this user namespace does not have. The
// kernel's own answer, from deep inside the start, is "invalid argument".
func CheckIDs(u specs.User) error {
	m, err := userns.Current()
	if err != nil {
		return err
	}
	if _, err := userns.ToHost(m.UIDs, u.UID); err != nil {
		return fmt.Errorf("cannot use the process: uid %d is not mapped: %d ids are available here", u.UID, userns.Total(m.UIDs))
	}
	for _, gid := range append([]uint32{u.GID}, u.AdditionalGids...) {
		if _, err := userns.ToHost(m.GIDs, gid); err != nil {
			return fmt.Errorf("cannot use the process: gid %d is not mapped: %d ids are available here", gid, userns.Total(m.GIDs))
		}
	}
	return nil
}

// NestedUserNS tells whether the bundle asks for a user namespace of its own.
func NestedUserNS(spec *specs.Spec) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.UserNamespace
	})
}

// CheckProcess refuses a process that libcontainer would stumble over late.
func CheckProcess(p *specs.Process) error {
	switch {
	case p == nil:
		return errors.New("cannot use the process: none is given")
	case len(p.Args) == 0:
		return errors.New("cannot use the process: args is empty")
	case !filepath.IsAbs(p.Cwd):
		return fmt.Errorf("cannot use the process: cwd %q is not an absolute path", p.Cwd)
	}
	return nil
}
