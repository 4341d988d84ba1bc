package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"github.com/moss-containers/moss/pkg/image/layer"
)

// dockerImages returns the images of a manifest.json.
func (a *imageArchive) dockerImages() ([]archived, error) {
	b, err := a.read("manifest.json")
	if err != nil {
		return nil, err
	}
	var entries []dockerEntry
	if err := json.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(entries) == 0 {
		return nil, errors.New("the archive holds no image")
	}
	images := make([]archived, 0, len(entries))
	for _, e := range entries {
		im, err := a.dockerImage(e)
		if err != nil {
			return nil, fmt.Errorf("manifest.json: %w", err)
		}
		images = append(images, im)
	}
	return images, nil
}

// dockerEntry is one image in a manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *imageArchive) dockerImage(e dockerEntry) (im archived, err error) {
	if e.Config == "" {
		return im, errors.New("an image has no configuration")
	}
	for _, tag := range e.RepoTags {
		name, err := normalTag(tag)
		if err != nil {
			return im, err
		}
		if !slices.Contains(im.names, name) {
			im.names = append(im.names, name)
		}
	}
	if im.config, err = a.read(e.Config); err != nil {
		return im, err
	}
	// docker and podman call it by its digest.
	named := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(path.Base(e.Config), ".json"))
	if named.Validate() == nil && named != digest.FromBytes(im.config) {
		return im, fmt.Errorf("the configuration %s has another digest", e.Config)
	}
	for _, name := range e.Layers {
		r, err := a.open(name)
		if err != nil {
			return im, err
		}
		want := layer.Expect{Size: r.Size()}
		if d, ok := digestOfName(path.Clean(name)); ok {
			want.Digest = d
		}
		im.layers = append(im.layers, archivedLayer{r, want})
	}
	return im, im.complete()
}
