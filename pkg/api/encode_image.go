package api

import (
	"slices"
	"time"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/moss"
)

func familiarAll(names []string) []string {
	out := []string{}
	for _, n := range names {
		out = append(out, familiar(n))
	}
	return out
}

func encodeImageSummary(img *moss.Image, containers int64, v version) image.Summary {
	out := image.Summary{
		Containers: containers, Created: unixOrZero(img.Created), ID: string(img.ID), Labels: nonNil(img.Config.Labels),
		RepoTags: familiarAll(img.Names), RepoDigests: familiarAll(img.Digests), SharedSize: -1, Size: img.Size,
	}
	if v.before(v1(51)) {
		out.Containers = -1
	}
	if v.before(v1(43)) && len(out.RepoTags) == 0 && len(out.RepoDigests) == 0 {
		out.RepoTags, out.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	return out
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// encodeImage is an image as docker image inspect gets it.
func encodeImage(img *moss.Image, driver string, v version) map[string]any {
	out := image.InspectResponse{
		ID: string(img.ID), RepoTags: familiarAll(img.Names), RepoDigests: familiarAll(img.Digests),
		Comment: img.Comment, Author: img.Author, Architecture: img.Architecture, Variant: img.Variant, Os: img.OS,
		Size: img.Size, GraphDriver: &storage.DriverData{Name: driver, Data: map[string]string{}},
		RootFS: image.RootFS{Type: "layers", Layers: img.DiffIDs}, Metadata: image.Metadata{LastTagTime: img.TaggedAt},
	}
	if !img.Created.IsZero() || v.before(v1(44)) {
		out.Created = stamp(img.Created)
	}
	c := img.Config
	cfg := &dockerspec.DockerOCIImageConfig{}
	cfg.User, cfg.Env, cfg.Entrypoint, cfg.Cmd, cfg.WorkingDir = c.User, c.Env, c.Entrypoint, c.Cmd, c.WorkingDir
	cfg.Labels, cfg.StopSignal, cfg.OnBuild, cfg.Shell = c.Labels, c.StopSignal, c.OnBuild, c.Shell
	full := encodeConfig(c)
	cfg.Volumes, cfg.Healthcheck = full.Volumes, full.Healthcheck
	for p := range full.ExposedPorts {
		if cfg.ExposedPorts == nil {
			cfg.ExposedPorts = map[string]struct{}{}
		}
		cfg.ExposedPorts[p.String()] = struct{}{}
	}
	out.Config = cfg
	m := imageMembers(out, img, v)
	if v.before(v1(52)) {
		// Until 1.51 members without a value were there, and until 1.49 those of a container too.
		m["Config"], m["Author"], m["Comment"], m["Parent"], m["DockerVersion"] = full, img.Author, img.Comment, "", ""
	}
	return m
}

// encodeHistory is an image's history, newest first. Only the top has an id: the
// others are not images of their own. A size that is not known is -1.
func encodeHistory(img *moss.Image) []image.HistoryResponseItem {
	out := []image.HistoryResponseItem{}
	layers := 0
	for _, h := range img.History {
		if !h.EmptyLayer {
			layers++
		}
	}
	for _, h := range slices.Backward(img.History) {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: h.Comment, Created: unixOrZero(h.Created), CreatedBy: h.CreatedBy}
		if !h.EmptyLayer {
			layers--
			item.Size = layerSize(img, layers)
		}
		if len(out) == 0 {
			item.ID, item.Tags = string(img.ID), familiarAll(img.Names)
		}
		out = append(out, item)
	}
	return out
}

func layerSize(img *moss.Image, i int) int64 {
	switch {
	case i < len(img.LayerSizes):
		return img.LayerSizes[i]
	case len(img.DiffIDs) == 1:
		return img.Size
	}
	return -1
}
