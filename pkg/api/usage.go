package api

import (
	"net/http"
	"slices"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/moss-containers/moss/pkg/moss"
)

var usageTypes = []system.DiskUsageObject{system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject}

// pruneBuildCache finds nothing to remove, as there are no builds: docker's
// system prune asks for it last.
func (s *Server) pruneBuildCache(w *response, _ *request) error {
	return writeJSON(w, http.StatusOK, build.CachePruneReport{})
}

func (s *Server) diskUsage(w *response, r *request) error {
	want := usageTypes
	if r.has("type") && !r.version.before(v1(42)) {
		want = nil
		for _, t := range r.strs("type") {
			if !slices.Contains(usageTypes, system.DiskUsageObject(t)) {
				return invalid("unknown object type: %s", t)
			}
			want = append(want, system.DiskUsageObject(t))
		}
	}
	var u moss.DiskUsage
	if slices.Contains(want, system.ContainerObject) || slices.Contains(want, system.ImageObject) {
		var err error
		if u, err = s.o.Usage.Usage(r.Context()); err != nil {
			return err
		}
	}
	if slices.Contains(want, system.VolumeObject) {
		var err error
		if u.Volumes, err = s.o.Volumes.Usage(r.Context()); err != nil {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, encodeUsage(u, want, r.flag("verbose"), r.version, s.now()))
}

// encodeUsage is docker's answer: until 1.51 lists, since 1.52 sums with the
// lists where they are asked for; 1.52 without them has the old members too.
func encodeUsage(u moss.DiskUsage, want []system.DiskUsageObject, verbose bool, v version, now time.Time) map[string]any {
	images, containers, volumes := encodeImageUsage(u, v), encodeContainerUsage(u, v, now), encodeVolumeUsage(u)
	out := map[string]any{}
	if v.before(v1(52)) || v.before(v1(53)) && !verbose {
		oldUsage(out, images, containers, volumes, want, v)
	}
	if v.before(v1(52)) {
		return out
	}
	if !verbose {
		images.Items, containers.Items, volumes.Items = nil, nil, nil
	}
	for key, part := range map[system.DiskUsageObject]struct {
		name  string
		value any
	}{
		system.ImageObject:      {"ImageUsage", images},
		system.ContainerObject:  {"ContainerUsage", containers},
		system.VolumeObject:     {"VolumeUsage", volumes},
		system.BuildCacheObject: {"BuildCacheUsage", build.DiskUsage{}},
	} {
		if slices.Contains(want, key) {
			out[part.name] = part.value
		}
	}
	return out
}

// oldUsage adds the members of 1.51 and before; what is not asked for is null.
func oldUsage(out map[string]any, images image.DiskUsage, containers container.DiskUsage, volumes volume.DiskUsage, want []system.DiskUsageObject, v version) {
	out["LayersSize"], out["Images"], out["Containers"], out["Volumes"], out["BuildCache"] = 0, nil, nil, nil, nil
	for _, t := range want {
		switch t {
		case system.ImageObject:
			list := []any{}
			for i := range images.Items {
				list = append(list, oldSummary(images.Items[i], v))
			}
			out["LayersSize"], out["Images"] = images.TotalSize, list
		case system.ContainerObject:
			out["Containers"] = containers.Items
		case system.VolumeObject:
			out["Volumes"] = volumes.Items
		case system.BuildCacheObject:
			out["BuildCache"] = []build.CacheRecord{}
		}
	}
	if v.before(v1(42)) {
		out["BuilderSize"] = 0
	}
}

func encodeImageUsage(u moss.DiskUsage, v version) image.DiskUsage {
	out := image.DiskUsage{TotalCount: int64(len(u.Images)), TotalSize: u.LayersSize + u.Unused, Reclaimable: u.Unused, Items: []image.Summary{}}
	for i := range u.Images {
		one := &u.Images[i]
		sum := encodeImageSummary(&one.Image, int64(one.Containers), v)
		sum.Size += one.Copies
		sum.SharedSize, sum.Containers = one.SharedSize, int64(one.Containers)
		if one.Containers > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += one.Image.Size - one.SharedSize
		}
		out.Items = append(out.Items, sum)
	}
	return out
}

func encodeContainerUsage(u moss.DiskUsage, v version, now time.Time) container.DiskUsage {
	out := container.DiskUsage{TotalCount: int64(len(u.Containers)), Items: []container.Summary{}}
	for i := range u.Containers {
		one := &u.Containers[i]
		sum := encodeSummary(&one.Container, v, now)
		sum.SizeRw, sum.SizeRootFs = one.Written, one.Total
		out.TotalSize += one.Written
		if one.Container.State.Alive() || one.Container.State == moss.StateRestarting {
			out.ActiveCount++
		} else {
			out.Reclaimable += one.Written
		}
		out.Items = append(out.Items, sum)
	}
	return out
}
