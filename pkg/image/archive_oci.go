package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/moss"
)

const maxNesting = 4 // of an index in an index

// containerdName is the annotation that has an image's full name.
const containerdName = "io.containerd.image.name"

// ociEntry is one image of an index.json, perhaps an index itself, with its names.
type ociEntry struct {
	desc  imgspec.Descriptor
	names []string
}

// ociImages returns the images of an OCI layout, one of each for the platform.
func (a *imageArchive) ociImages(want imgspec.Platform) ([]archived, error) {
	b, err := a.read("index.json")
	if err != nil {
		return nil, err
	}
	var index imgspec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	entries, about, err := ociEntries(index)
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var images []archived
	for _, group := range ociGroups(entries) {
		descs := make([]imgspec.Descriptor, len(group))
		for i, e := range group {
			descs[i] = e.desc
		}
		d := descs[0] // if it is alone, its configuration says what it is for
		if len(group) > 1 {
			if d, err = pick(descs, want); err != nil {
				return nil, err
			}
		}
		im, err := a.ociImage(d, about, want, 0)
		if err != nil {
			return nil, err
		}
		im.names = group[0].names
		images = append(images, im)
	}
	return images, nil
}

// ociEntries reads an index.json. Several entries of one manifest are one
// image with several names. Attestations are told by what they are about.
func ociEntries(index imgspec.Index) (entries []ociEntry, about map[digest.Digest][]imgspec.Descriptor, err error) {
	at := map[digest.Digest]int{}
	about = map[digest.Digest][]imgspec.Descriptor{}
	for _, m := range index.Manifests {
		if of, ok := isAttestation(m); ok {
			about[of] = append(about[of], m)
			continue
		}
		if err := m.Digest.Validate(); err != nil {
			return nil, nil, fmt.Errorf("digest %q: %w", m.Digest, err)
		}
		n, seen := at[m.Digest]
		if !seen {
			n = len(entries)
			at[m.Digest] = n
			entries = append(entries, ociEntry{desc: m})
		}
		name := ociName(m)
		if name == "" {
			continue
		}
		normal, err := normalTag(name)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(entries[n].names, normal) {
			entries[n].names = append(entries[n].names, normal)
		}
	}
	if len(entries) == 0 {
		return nil, nil, errors.New("the archive holds no image")
	}
	return entries, about, nil
}

func ociName(d imgspec.Descriptor) string {
	if name := d.Annotations[containerdName]; name != "" {
		return name
	}
	// The specification's annotation is often a tag alone, which names nothing.
	if ref := d.Annotations[imgspec.AnnotationRefName]; strings.ContainsAny(ref, ":/") {
		return ref
	}
	return ""
}

// ociGroups puts together what is one image for several platforms: entries of
// the same names whose platforms all differ.
func ociGroups(entries []ociEntry) [][]ociEntry {
	var groups [][]ociEntry
	at := map[string]int{}
	for _, e := range entries {
		key := strings.Join(e.names, " ")
		if i, ok := at[key]; ok {
			groups[i] = append(groups[i], e)
			continue
		}
		at[key] = len(groups)
		groups = append(groups, []ociEntry{e})
	}
	var out [][]ociEntry
	for _, g := range groups {
		seen := map[string]bool{}
		for _, e := range g {
			if e.desc.Platform != nil {
				seen[platformText(*e.desc.Platform)] = true
			}
		}
		if len(seen) == len(g) {
			out = append(out, g)
			continue
		}
		for _, e := range g {
			out = append(out, []ociEntry{e})
		}
	}
	return out
}

// ociImage reads what a descriptor names: an image, or an index of images to pick from.
func (a *imageArchive) ociImage(d imgspec.Descriptor, about map[digest.Digest][]imgspec.Descriptor, want imgspec.Platform, depth int) (im archived, err error) {
	b, err := a.blob(d)
	if err != nil {
		return im, err
	}
	m, kind, err := decodeManifest(b, d.MediaType)
	switch {
	case err != nil:
		return im, err
	case isIndexType(kind):
		return a.ociIndex(m.Manifests, want, depth)
	case !isImageType(kind) || m.Config == nil:
		return im, fmt.Errorf("%s is a %q, and no image", d.Digest, kind)
	}
	im.manifest = b
	if im.config, err = a.blob(*m.Config); err != nil {
		return im, err
	}
	for _, l := range m.Layers {
		r, err := a.openBlob(l)
		if err != nil {
			return im, err
		}
		im.layers = append(im.layers, archivedLayer{r, layer.Expect{Digest: l.Digest, Size: l.Size}})
	}
	im.attestations, err = a.statements(about[d.Digest])
	return im, errors.Join(err, im.complete())
}

// statements reads what attestation manifests say.
func (a *imageArchive) statements(manifests []imgspec.Descriptor) (list []moss.Attestation, err error) {
	for _, d := range manifests {
		b, err := a.blob(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue // left out by whoever made the archive
		}
		if err != nil {
			return nil, err
		}
		more, err := readAttestations(b, a.blob)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// ociIndex picks one image of an index, of those that the archive has.
func (a *imageArchive) ociIndex(list []imgspec.Descriptor, want imgspec.Platform, depth int) (archived, error) {
	if depth == maxNesting {
		return archived{}, errors.New("the indexes do not end")
	}
	entries, about, err := ociEntries(imgspec.Index{Manifests: nameless(list)})
	if err != nil {
		return archived{}, err
	}
	var there []imgspec.Descriptor
	for _, e := range entries {
		if p := e.desc.Platform; p != nil && p.OS == "unknown" {
			continue // no image, and not marked as what it is
		}
		if _, err := a.openBlob(e.desc); err == nil {
			there = append(there, e.desc)
		}
	}
	if len(there) == 0 {
		return archived{}, errors.New("the archive lacks all images of its index")
	}
	d, err := pick(there, want)
	if err != nil {
		return archived{}, err
	}
	return a.ociImage(d, about, want, depth+1)
}

// nameless takes the annotations that would be names off what an inner index has.
func nameless(list []imgspec.Descriptor) []imgspec.Descriptor {
	out := slices.Clone(list)
	for i, d := range out {
		if _, ok := isAttestation(d); !ok {
			out[i].Annotations = nil
		}
	}
	return out
}

// images returns what an archive holds for a platform. An archive that is both
// is read as OCI layout: it has the manifests, too.
func (a *imageArchive) images(want imgspec.Platform) (images []archived, err error) {
	switch {
	case a.isLayout() && a.has("index.json"):
		images, err = a.ociImages(want)
	case a.has("manifest.json"):
		images, err = a.dockerImages()
	case a.isLayout():
		err = errors.New("the OCI archive has no index.json")
	default:
		err = errors.New("this is neither a docker- nor an OCI-archive: it has no manifest.json and no oci-layout; a root file system is imported, not loaded")
	}
	if err != nil {
		return nil, err
	}
	var there []string
	suited := slices.DeleteFunc(images, func(im archived) bool {
		there = append(there, platformText(im.platform))
		return !suits(want, im.platform)
	})
	if len(suited) == 0 {
		return nil, noPlatform(want, there)
	}
	return suited, nil
}
