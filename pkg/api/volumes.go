package api

import (
	"cmp"
	"context"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/volume"

	"github.com/moss-containers/moss/pkg/moss"
)

// Volumes keeps volumes.
type Volumes interface {
	// Create makes a volume; one of that name is it already.
	Create(ctx context.Context, r moss.VolumeRequest) (moss.Volume, error)
	Get(ctx context.Context, name string) (moss.Volume, error)
	// List tells, too, of drivers that cannot be asked.
	List(ctx context.Context, f moss.VolumeFilter) (all []moss.Volume, warnings []string)
	// Remove takes a volume away. Errors: Conflict where it is in use.
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, f moss.VolumeFilter) (moss.VolumesPruned, error)
	Usage(ctx context.Context) ([]moss.VolumeUsage, error)
	// RemoveContainer removes a container together with its anonymous volumes.
	RemoveContainer(ctx context.Context, ref string, force bool) error
}

func (s *Server) createVolume(w *response, r *request) error {
	var in volume.CreateRequest
	if err := decodeStrict(w, r.Request, &in); err != nil {
		return err
	}
	if in.ClusterVolumeSpec != nil {
		return noSwarm(s, w, r)
	}
	v, err := s.o.Volumes.Create(r.Context(), moss.VolumeRequest{Name: in.Name, Driver: in.Driver, Options: in.DriverOpts, Labels: in.Labels})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, encodeVolume(v))
}

func (s *Server) listVolumes(w *response, r *request) error {
	f, err := parseFilters(r.str("filters"), "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	want := moss.VolumeFilter{Names: f["name"], Drivers: f["driver"], Labels: f["label"]}
	dangling, set, err := f.boolean("dangling")
	if err != nil {
		return err
	}
	if set {
		want.Dangling = &dangling
	}
	all, warnings := s.o.Volumes.List(r.Context(), want)
	out := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: warnings}
	for _, v := range all {
		out.Volumes = append(out.Volumes, encodeVolume(v))
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *Server) inspectVolume(w *response, r *request) error {
	v, err := s.o.Volumes.Get(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, encodeVolume(v))
}

// updateVolume is for the volumes of a swarm only, as in docker.
func (s *Server) updateVolume(w *response, r *request) error {
	if _, err := s.o.Volumes.Get(r.Context(), r.name); err != nil {
		return err
	}
	return noSwarm(s, w, r)
}

func (s *Server) removeVolume(w *response, r *request) error {
	if err := s.o.Volumes.Remove(r.Context(), r.name, r.flag("force")); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) pruneVolumes(w *response, r *request) error {
	f, err := parseFilters(r.str("filters"), "label", "label!", "all")
	if err != nil {
		return err
	}
	want := moss.VolumeFilter{Labels: f["label"], NotLabel: f["label!"]}
	if want.All, _, err = f.boolean("all"); err != nil {
		return err
	}
	if r.version.before(v1(42)) {
		want.All = true // only newer clients know the filter
	}
	done, err := s.o.Volumes.Prune(r.Context(), want)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, volume.PruneReport{VolumesDeleted: done.Removed, SpaceReclaimed: uint64(max(done.Reclaimed, 0))})
}

func encodeVolume(v moss.Volume) volume.Volume {
	out := volume.Volume{
		Name: v.Name, Driver: v.Driver, Mountpoint: v.Path, Scope: cmp.Or(v.Scope, "local"),
		Labels: v.Labels, Options: v.Options, Status: v.Status,
	}
	if v.Driver == moss.LocalDriver || !v.Created.IsZero() { // a plugin need not tell
		out.CreatedAt = v.Created.Format(time.RFC3339)
	}
	return out
}

func encodeVolumeUsage(u moss.DiskUsage) volume.DiskUsage {
	out := volume.DiskUsage{TotalCount: int64(len(u.Volumes)), Items: []volume.Volume{}}
	for _, one := range u.Volumes {
		v := encodeVolume(one.Volume)
		v.UsageData = &volume.UsageData{RefCount: int64(one.Containers), Size: one.Size}
		out.TotalSize += one.Size
		if one.Containers > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += one.Size
		}
		out.Items = append(out.Items, v)
	}
	return out
}

// volumes reads VolumesFrom and the driver of volumes that are to be made.
func (d *createDecoder) volumes() error {
	in, out := &d.in.HostConfig.HostConfig, &d.out.Host
	out.VolumeDriver = in.VolumeDriver
	for _, raw := range in.VolumesFrom {
		from := moss.VolumesFrom{}
		from.Container, from.Mode, _ = strings.Cut(raw, ":")
		if from.Container == "" {
			return invalid("volumes-from must name a container: %q", raw)
		}
		for o := range strings.SplitSeq(from.Mode, ",") {
			switch o {
			case "ro":
				from.ReadOnly = true
			case "", "rw", "z", "Z": // see bindOptions
			default:
				return invalid("invalid mode: %s", from.Mode)
			}
		}
		out.VolumesFrom = append(out.VolumesFrom, from)
	}
	return nil
}

// parseVolume reads docker's [name:]target[:options].
func (s *Server) parseVolume(raw string) (moss.MountPoint, error) {
	m := moss.MountPoint{Type: moss.MountVolume}
	parts := strings.Split(raw, ":")
	if parts[0] == "" || len(parts) > 3 {
		return m, invalid("invalid volume specification: '%s'", raw)
	}
	if len(parts) == 1 {
		m.Target = parts[0]
	} else {
		m.Name, m.Target = parts[0], parts[1]
	}
	if err := validTarget(m.Target); err != nil {
		return m, invalid("invalid volume specification: '%s': %w", raw, err)
	}
	m.Target = path.Clean(m.Target)
	if len(m.Name) == 1 {
		return m, invalid("invalid volume specification: '%s': volume name is too short, names should be at least two alphanumeric characters", raw)
	}
	if len(parts) < 3 {
		m.Mode, m.Relabel = "z", "z" // as docker has it for volumes
		return m, nil
	}
	m.Mode = parts[2]
	words := strings.Split(m.Mode, ",")
	if i := slices.Index(words, "nocopy"); i >= 0 {
		m.NoCopy = true
		words = slices.Delete(words, i, i+1)
	}
	if len(words) == 0 {
		return m, nil
	}
	if slices.ContainsFunc(words, func(w string) bool { return slices.Contains(propagations, w) }) {
		return m, invalid("invalid mode: %s", m.Mode)
	}
	return m, s.bindOptions(&m, strings.Join(words, ","), raw)
}

func mountVolume(in mount.Mount) (moss.MountPoint, error) {
	m := moss.MountPoint{Type: moss.MountVolume, Name: in.Source, Target: path.Clean(in.Target), ReadOnly: in.ReadOnly, Mode: "z", Relabel: "z"}
	o := in.VolumeOptions
	if o == nil {
		return m, nil
	}
	m.NoCopy, m.SubPath = o.NoCopy, o.Subpath
	if m.SubPath != "" {
		if in.Source == "" {
			return m, invalid("must not set Subpath when using anonymous volumes")
		}
		var err error
		if m.SubPath, err = subPath(m.SubPath, "volume"); err != nil {
			return m, err
		}
	}
	if len(o.Labels) > 0 || o.DriverConfig != nil {
		m.Ask = &moss.VolumeRequest{Labels: o.Labels}
		if o.DriverConfig != nil {
			m.Ask.Driver, m.Ask.Options = o.DriverConfig.Name, o.DriverConfig.Options
		}
	}
	return m, nil
}

func encodeVolumeSpec(spec *mount.Mount, m moss.MountPoint) {
	spec.Source = m.Name
	if !m.NoCopy && m.SubPath == "" && m.Ask == nil {
		return
	}
	spec.VolumeOptions = &mount.VolumeOptions{NoCopy: m.NoCopy, Subpath: m.SubPath}
	if m.Ask != nil {
		spec.VolumeOptions.Labels = m.Ask.Labels
		if m.Ask.Driver != "" || len(m.Ask.Options) > 0 {
			spec.VolumeOptions.DriverConfig = &mount.Driver{Name: m.Ask.Driver, Options: m.Ask.Options}
		}
	}
}
