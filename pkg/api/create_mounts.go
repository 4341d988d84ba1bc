package api

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/moss-containers/moss/pkg/moss"
)

// mounts reads Binds, Tmpfs and Mounts.
func (d *createDecoder) mounts() error {
	in, out := &d.in.HostConfig.HostConfig, &d.out.Host
	out.Binds = in.Binds
	for _, b := range in.Binds {
		m, err := d.s.parseBind(b)
		if err != nil {
			return err
		}
		out.Mounts = append(out.Mounts, m)
	}
	for _, target := range slices.Sorted(maps.Keys(in.Tmpfs)) {
		m, err := tmpfs(target, in.Tmpfs[target])
		if err != nil {
			return err
		}
		out.Mounts = append(out.Mounts, m)
	}
	for _, spec := range in.Mounts {
		m, err := d.mount(spec)
		if err != nil {
			return err
		}
		m.Consistency, m.Spec = string(spec.Consistency), spec.Type == mount.TypeTmpfs
		out.Mounts = append(out.Mounts, m)
	}
	seen := map[string]bool{}
	for _, m := range out.Mounts {
		if seen[m.Target] {
			return invalid("Duplicate mount point: %s", m.Target)
		}
		seen[m.Target] = true
	}
	return nil
}

var propagations = []string{"rprivate", "private", "rshared", "shared", "rslave", "slave"}

// parseBind reads docker's source:target[:options].
func (s *Server) parseBind(raw string) (moss.MountPoint, error) {
	m := moss.MountPoint{Type: moss.MountBind, CreateSource: true, Propagation: "rprivate"}
	if !strings.HasPrefix(raw, "/") || !strings.Contains(raw, ":") {
		return s.parseVolume(raw)
	}
	parts := strings.Split(raw, ":")
	switch {
	case parts[0] == "" || len(parts) > 3:
		return m, invalid("invalid volume specification: '%s'", raw)
	case len(parts) == 2 && s.bindOptions(&m, parts[1], raw) == nil:
		return m, invalid("invalid volume specification: '%s'", raw) // options without a target
	}
	m.Source, m.Target = parts[0], parts[1]
	if err := validTarget(m.Target); err != nil {
		return m, invalid("invalid volume specification: '%s': %w", raw, err)
	}
	m.Source, m.Target = path.Clean(m.Source), path.Clean(m.Target)
	if len(parts) == 3 {
		m.Mode = parts[2]
		m.ReadOnly, m.Propagation = false, "rprivate"
		if err := s.bindOptions(&m, m.Mode, raw); err != nil {
			return m, err
		}
	}
	return m, nil
}

// bindOptions reads the comma-separated options of -v, at most one of a kind.
func (s *Server) bindOptions(m *moss.MountPoint, opts, raw string) error {
	seen := map[string]bool{}
	for o := range strings.SplitSeq(opts, ",") {
		kind := ""
		switch {
		case o == "rw" || o == "ro":
			kind, m.ReadOnly = "access", o == "ro"
		case slices.Contains(propagations, o):
			kind, m.Propagation = "propagation", o
		case o == "consistent" || o == "cached" || o == "delegated":
			kind = "consistency" // says something on a Mac only
		case o == "z" || o == "Z":
			kind, m.Relabel = "label", o
		case o == "idmap" || strings.HasPrefix(o, "idmap="):
			return noIDMap("-v " + raw)
		case o == "" && opts == "":
			return nil
		default:
			return invalid("invalid mode: %s", opts)
		}
		if seen[kind] {
			return invalid("invalid mode: %s", opts)
		}
		seen[kind] = true
	}
	return nil
}

// noIDMap refuses what the kernel allows to the owner of the file system alone (mount_setattr(2)).
func noIDMap(what string) error {
	return moss.Errorf(moss.NotImplemented, "moss does not map the ids of mounts (%s): the kernel lets only root do so on the file systems of a disk. Root in the container is you already; give files to another id with: moss unshare chown", what)
}

func validTarget(target string) error {
	switch {
	case !path.IsAbs(target):
		return invalid("invalid mount path: '%s' mount path must be absolute", target)
	case path.Clean(target) == "/":
		return invalid("invalid specification: destination can't be '/'")
	case strings.ContainsRune(target, 0):
		return invalid("invalid mount path: it has a NUL byte")
	}
	return nil
}

// tmpfsFlags are the words that may stand among a tmpfs's options by themselves.
var tmpfsFlags = strings.Fields("rw ro exec noexec suid nosuid dev nodev sync async dirsync atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime")

// tmpfsValues are the options with a value, tmpfs(5), and what the kernel reads as one.
var tmpfsValues = map[string]*regexp.Regexp{
	"size":      regexp.MustCompile(`^([0-9]+|0[xX][0-9a-fA-F]+)[kKmMgGtTpPeE]?%?$`),
	"nr_blocks": regexp.MustCompile(`^([0-9]+|0[xX][0-9a-fA-F]+)[kKmMgGtTpPeE]?$`),
	"nr_inodes": regexp.MustCompile(`^([0-9]+|0[xX][0-9a-fA-F]+)[kKmMgGtTpPeE]?$`),
	"mode":      regexp.MustCompile(`^[0-7]{1,5}$`),
	"uid":       regexp.MustCompile(`^[0-9]{1,10}$`),
	"gid":       regexp.MustCompile(`^[0-9]{1,10}$`),
	"mpol":      regexp.MustCompile(`.`),
}

func tmpfs(target, options string) (moss.MountPoint, error) {
	m := moss.MountPoint{Type: moss.MountTmpfs, TmpfsOptions: options}
	if err := validTarget(target); err != nil {
		return m, err
	}
	m.Target = path.Clean(target)
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		key, value, valued := strings.Cut(o, "=")
		form := tmpfsValues[key]
		if valued && (form == nil || !form.MatchString(value)) || !valued && !slices.Contains(tmpfsFlags, key) {
			return m, invalid("invalid tmpfs option %q of %s", o, target)
		}
		m.ReadOnly = m.ReadOnly && o != "rw" || o == "ro"
	}
	return m, nil
}

// mount reads one of HostConfig.Mounts.
func (d *createDecoder) mount(in mount.Mount) (moss.MountPoint, error) {
	bad := func(err error) (moss.MountPoint, error) {
		return moss.MountPoint{}, moss.Errorf(moss.ClassOf(err), "invalid mount config for type %q: %w", in.Type, err)
	}
	switch in.Consistency {
	case "", "default", "consistent", "cached", "delegated": // says something on a Mac only
	default:
		return bad(invalid("invalid consistency %q", in.Consistency))
	}
	switch in.Type {
	case mount.TypeBind, mount.TypeTmpfs, mount.TypeVolume, mount.TypeImage:
	case mount.TypeCluster, mount.TypeNamedPipe:
		return bad(notYet("this type of mount", "use bind, volume, tmpfs or image"))
	default:
		return bad(invalid("mount type unknown"))
	}
	if err := validTarget(in.Target); err != nil {
		if in.Target == "" {
			err = invalid("field Target must not be empty")
		}
		return bad(err)
	}
	for field, extra := range map[string]bool{
		"VolumeOptions":  in.VolumeOptions != nil && in.Type != mount.TypeVolume,
		"ImageOptions":   in.ImageOptions != nil && in.Type != mount.TypeImage,
		"ClusterOptions": in.ClusterOptions != nil,
		"BindOptions":    in.BindOptions != nil && in.Type != mount.TypeBind,
		"TmpfsOptions":   in.TmpfsOptions != nil && in.Type != mount.TypeTmpfs,
		"Source":         in.Source != "" && in.Type == mount.TypeTmpfs,
	} {
		if extra {
			return bad(invalid("field %s must not be specified", field))
		}
	}
	if in.Type == mount.TypeTmpfs {
		m, err := mountTmpfs(in)
		if err != nil {
			return bad(err)
		}
		return m, nil
	}
	how := mountBind
	switch in.Type {
	case mount.TypeVolume:
		how = mountVolume
	case mount.TypeImage:
		how = mountImage
	default:
	}
	m, err := how(in)
	if err != nil {
		return bad(err)
	}
	return m, nil
}

func mountBind(in mount.Mount) (moss.MountPoint, error) {
	m := moss.MountPoint{
		Type: moss.MountBind, Source: path.Clean(in.Source), Target: path.Clean(in.Target),
		ReadOnly: in.ReadOnly, Propagation: "rprivate",
	}
	switch {
	case in.Source == "":
		return m, invalid("field Source must not be empty")
	case !path.IsAbs(in.Source):
		return m, invalid("invalid mount path: '%s' mount path must be absolute", in.Source)
	case in.BindOptions == nil:
		return m, nil
	}
	o := in.BindOptions
	switch { // recursive is what read-only means anyway
	case o.ReadOnlyNonRecursive && o.ReadOnlyForceRecursive:
		return m, invalid("ReadOnlyForceRecursive contradicts ReadOnlyNonRecursive")
	case (o.ReadOnlyNonRecursive || o.ReadOnlyForceRecursive) && !in.ReadOnly:
		return m, invalid("ReadOnlyNonRecursive and ReadOnlyForceRecursive require ReadOnly")
	case o.ReadOnlyForceRecursive && o.NonRecursive:
		return m, invalid("ReadOnlyForceRecursive contradicts NonRecursive")
	case o.ReadOnlyForceRecursive && o.Propagation != "" && o.Propagation != "rprivate":
		return m, invalid("ReadOnlyForceRecursive requires the propagation rprivate")
	}
	m.ReadOnlyTop, m.ReadOnlyAll = o.ReadOnlyNonRecursive, o.ReadOnlyForceRecursive
	if o.Propagation != "" {
		if !slices.Contains(propagations, string(o.Propagation)) {
			return m, invalid("invalid propagation mode: %s", o.Propagation)
		}
		m.Propagation = string(o.Propagation)
	}
	m.NonRecursive, m.CreateSource = o.NonRecursive, o.CreateMountpoint
	return m, nil
}

// mountImage reads a mount of an image, which is read-only as docker's is.
func mountImage(in mount.Mount) (moss.MountPoint, error) {
	m := moss.MountPoint{Type: moss.MountImage, Name: in.Source, Target: path.Clean(in.Target), ReadOnly: true}
	if in.Source == "" {
		return m, invalid("field Source must not be empty")
	}
	if in.ImageOptions == nil || in.ImageOptions.Subpath == "" {
		return m, nil
	}
	var err error
	m.SubPath, err = subPath(in.ImageOptions.Subpath, "image")
	return m, err
}

// subPath checks a part of a volume or of an image. What leads out of it by
// links is found out when it is mounted.
func subPath(sub, of string) (string, error) {
	clean := path.Clean(sub)
	if path.IsAbs(sub) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", invalid("invalid subpath %q: it must be a relative path within the %s", sub, of)
	}
	return clean, nil
}

func mountTmpfs(in mount.Mount) (moss.MountPoint, error) {
	var opts []string
	if in.ReadOnly {
		opts = append(opts, "ro")
	}
	if o := in.TmpfsOptions; o != nil {
		if o.SizeBytes < 0 {
			return moss.MountPoint{}, invalid("invalid tmpfs size %d: it is negative", o.SizeBytes)
		}
		if o.SizeBytes > 0 {
			opts = append(opts, "size="+strconv.FormatInt(o.SizeBytes, 10))
		}
		if o.Mode != 0 {
			opts = append(opts, "mode="+strconv.FormatUint(uint64(o.Mode), 8))
		}
		for _, opt := range o.Options {
			if len(opt) != 1 || opt[0] != "exec" && opt[0] != "noexec" {
				return moss.MountPoint{}, invalid("invalid option: %s", strings.Join(opt, "="))
			}
			opts = append(opts, opt[0])
		}
	}
	return tmpfs(in.Target, strings.Join(opts, ","))
}
