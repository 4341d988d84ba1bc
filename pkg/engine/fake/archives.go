package fake

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/moss-containers/moss/pkg/moss"
)

// builtin is the image that comes with moss.
const builtin = "docker.io/moss/hello:latest"

// Load reads a docker-archive that is not compressed. It forgets the layers.
func (s *Images) Load(ctx context.Context, r io.Reader, _ moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	files, err := untar(r)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &entries); err != nil || len(entries) == 0 {
		return nil, moss.Errorf(moss.Invalid, "manifest.json names no image (%v)", err)
	}
	var images []moss.Image
	for _, e := range entries {
		im, err := decode(files, e.Config, e.Layers)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "%w", err)
		}
		for _, tag := range e.RepoTags {
			name, err := normalTag(tag)
			if err != nil {
				return nil, err
			}
			im.Names = append(im.Names, name)
		}
		images = append(images, im)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var loaded []moss.LoadedImage
	for _, im := range images {
		names := im.Names
		im.Names = s.images[im.ID].Names
		s.addLocked(im)
		if len(names) == 0 {
			loaded = append(loaded, moss.LoadedImage{ID: im.ID})
			progress(moss.Progress{Status: "Loaded image ID: " + string(im.ID)})
		}
		for _, name := range names {
			if err := s.tagLocked(im.ID, name); err != nil {
				return loaded, err
			}
			loaded = append(loaded, moss.LoadedImage{ID: im.ID, Name: familiar(name)})
			progress(moss.Progress{Status: "Loaded image: " + familiar(name)})
		}
	}
	return loaded, nil
}

func familiar(name string) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(named)
}

func untar(r io.Reader) (map[string][]byte, error) {
	files := map[string][]byte{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) && len(files) > 0 {
			return files, nil
		}
		if err == nil {
			files[h.Name], err = io.ReadAll(tr)
		}
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "not an archive: %w", err)
		}
	}
}

func decode(files map[string][]byte, config string, layers []string) (moss.Image, error) {
	var doc struct {
		Architecture, OS string
		Created          time.Time
		RootFS           struct {
			DiffIDs []string `json:"diff_ids"`
		}
		Config struct {
			Cmd, Env, Entrypoint  []string
			Labels                map[string]string
			ExposedPorts, Volumes map[string]struct{}
			User, WorkingDir      string
			StopSignal            string
			StopTimeout           *int
		}
	}
	b, ok := files[config]
	if err := json.Unmarshal(b, &doc); !ok || err != nil {
		return moss.Image{}, fmt.Errorf("configuration %q is bad: %w", config, err)
	}
	c := doc.Config
	im := moss.Image{
		ID: moss.ImageID("sha256:" + sum(b)), Architecture: doc.Architecture, OS: doc.OS, Created: doc.Created, DiffIDs: doc.RootFS.DiffIDs,
		Config: moss.ContainerConfig{Cmd: c.Cmd, Env: c.Env, Entrypoint: c.Entrypoint, Labels: c.Labels, User: c.User, WorkingDir: c.WorkingDir, StopSignal: c.StopSignal, StopTimeout: c.StopTimeout},
	}
	for v := range c.Volumes {
		im.Config.Volumes = append(im.Config.Volumes, v)
	}
	for p := range c.ExposedPorts {
		number, proto, _ := strings.Cut(p, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return im, err
		}
		im.Config.ExposedPorts = append(im.Config.ExposedPorts, moss.Port{Number: uint16(n), Proto: moss.Protocol(proto)})
	}
	for i, name := range layers {
		l, ok := files[name]
		if !ok || i >= len(im.DiffIDs) || im.DiffIDs[i] != "sha256:"+sum(l) {
			return im, fmt.Errorf("layer %q is bad", name)
		}
		im.Size += int64(len(l))
		im.LayerSizes = append(im.LayerSizes, int64(len(l)))
	}
	return im, nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Import makes an image of a tar that is not compressed. Errors: Invalid for
// any Changes, which only the real adapter reads.
func (s *Images) Import(_ context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error) {
	var name string
	if len(o.Changes) > 0 {
		return moss.LoadedImage{}, moss.Errorf(moss.Invalid, "the fake does not read changes")
	}
	if o.Reference != "" {
		var err error
		if name, err = normalTag(o.Reference); err != nil {
			return moss.LoadedImage{}, err
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return moss.LoadedImage{}, err
	}
	if _, err := untar(bytes.NewReader(b)); err != nil {
		return moss.LoadedImage{}, err
	}
	im := moss.Image{Created: time.Now(), Architecture: o.Architecture, OS: o.OS, Comment: o.Message, Size: int64(len(b)), DiffIDs: []string{"sha256:" + sum(b)}, LayerSizes: []int64{int64(len(b))}}
	if im.OS == "" {
		im.OS = "linux"
	}
	return s.keep(im, name)
}

func (s *Images) keep(im moss.Image, name string) (moss.LoadedImage, error) {
	im.ID = moss.ImageID("sha256:" + moss.NewHexID())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(im)
	if name == "" {
		return moss.LoadedImage{ID: im.ID}, nil
	}
	return moss.LoadedImage{ID: im.ID, Name: familiar(name)}, s.tagLocked(im.ID, name)
}

// EnsureBuiltin makes moss/hello, without contents.
func (s *Images) EnsureBuiltin(ctx context.Context, ref string) (bool, error) {
	if name, err := normalTag(ref); err != nil || name != builtin {
		return false, nil //nolint:nilerr // not even a name, so not ours
	}
	if _, err := s.Resolve(ctx, builtin); err == nil {
		return true, nil
	}
	_, err := s.keep(moss.Image{OS: "linux", Config: moss.ContainerConfig{
		Entrypoint: []string{"/moss-hello"}, ExposedPorts: []moss.Port{{Number: 80, Proto: moss.TCP}},
	}}, builtin)
	return true, err
}
