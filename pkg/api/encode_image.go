package api

import (
	"slices"
	"time"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
		Comment: imageComment(img), Author: img.Author, Architecture: img.Architecture, Variant: img.Variant, Os: img.OS,
		Size: img.Size, GraphDriver: &storage.DriverData{Name: driver, Data: map[string]string{}},
		RootFS: image.RootFS{Type: "layers", Layers: img.DiffIDs}, Metadata: image.Metadata{LastTagTime: img.TaggedAt},
	}
	if !img.Created.IsZero() || v.before(v1(44)) {
		out.Created = stamp(img.Created)
	}
	if !v.before(v1(48)) {
		out.Descriptor = encodeDescriptor(img)
	}
	if !v.before(v1(53)) {
		out.Identity = encodeIdentity(img)
	}
	out.Config = encodeImageConfig(img.Config)
	m := members(out)
	if v.before(v1(44)) {
		m["VirtualSize"] = img.Size
	}
	if v.before(v1(52)) {
		// Members without a value were there.
		m["Config"], m["Author"], m["Comment"], m["Parent"], m["DockerVersion"] = oldImageConfig(img.Config, v), img.Author, out.Comment, "", ""
	}
	if v.before(v1(45)) {
		// They told of the container that the image was made from, of which nobody keeps anything since BuildKit.
		m["Container"], m["ContainerConfig"] = "", encodeConfig(moss.ContainerConfig{})
	}
	return m
}

// imageComment is the image's, or that of the last step of its making.
func imageComment(img *moss.Image) string {
	if n := len(img.History); img.Comment == "" && n > 0 {
		return img.History[n-1].Comment
	}
	return img.Comment
}

func encodeImageConfig(c moss.ContainerConfig) *dockerspec.DockerOCIImageConfig {
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
	return cfg
}

// oldImageConfig has the members that were there without a value: until 1.49
// those of a container too, until 1.51 those of an image.
func oldImageConfig(c moss.ContainerConfig, v version) any {
	if v.before(v1(50)) {
		return encodeConfig(c)
	}
	m := members(encodeImageConfig(c))
	for _, key := range []string{"Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "Volumes"} {
		if _, ok := m[key]; !ok {
			m[key] = nil
		}
	}
	m["User"], m["WorkingDir"] = c.User, c.WorkingDir
	return m
}

// encodeDescriptor is the image's manifest; nil where it is not known.
func encodeDescriptor(img *moss.Image) *ocispec.Descriptor {
	if img.Digest == "" || img.MediaType == "" {
		return nil
	}
	return &ocispec.Descriptor{MediaType: img.MediaType, Digest: digest.Digest(img.Digest), Size: img.ManifestSize}
}

// encodeIdentity tells which registries have the image under a digest; nil for none.
func encodeIdentity(img *moss.Image) *image.Identity {
	var out image.Identity
	for _, name := range img.Digests {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			continue
		}
		if p := (image.PullIdentity{Repository: ref.Name()}); !slices.Contains(out.Pull, p) {
			out.Pull = append(out.Pull, p)
		}
	}
	if len(out.Pull) == 0 {
		return nil
	}
	return &out
}

// encodeManifests is the one manifest that an image of moss has.
func encodeManifests(img *moss.Image, containers []string, identity bool) []image.ManifestSummary {
	m := image.ManifestSummary{ID: img.Digest, Available: true, Kind: image.ManifestKindImage}
	m.Descriptor.Digest = digest.Digest(img.Digest)
	if d := encodeDescriptor(img); d != nil {
		m.Descriptor = *d
	}
	p := ocispec.Platform{OS: img.OS, Architecture: img.Architecture, Variant: img.Variant}
	m.Descriptor.Platform = &p
	m.Size.Total = img.Size // the layers are kept unpacked alone
	m.ImageData = &image.ImageProperties{Platform: p, Containers: nonNilList(containers)}
	m.ImageData.Size.Unpacked = img.Size
	if identity {
		m.ImageData.Identity = encodeIdentity(img)
	}
	return []image.ManifestSummary{m}
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
