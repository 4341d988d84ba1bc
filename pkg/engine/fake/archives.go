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

// Load reads a docker-archive that is not compressed.
func (s *Images) Load(ctx context.Context, r io.Reader, o moss.LoadOptions, progress func(moss.Progress)) ([]moss.LoadedImage, error) {
	if err := s.failure(ctx, "Load"); err != nil {
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
	var images []unpacked
	for _, e := range entries {
		var layers [][]byte
		for _, name := range e.Layers {
			layers = append(layers, files[name])
		}
		im, err := unpack(files[e.Config], layers)
		if err != nil {
			return nil, moss.Errorf(moss.Invalid, "%w", err)
		}
		if o.Platform != "" && !fits(im.Image, o.Platform) {
			continue
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
	if len(images) == 0 {
		return nil, moss.Errorf(moss.NotFound, "the archive has no image for %s", o.Platform)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var loaded []moss.LoadedImage
	for _, im := range images {
		names := im.Names
		im.Names = nil
		s.enterLocked(im)
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

// unpacked is an image with what it is made of.
type unpacked struct {
	moss.Image
	config []byte
	layers [][]byte
}

// enterLocked puts an image in, or leaves the one that is there.
func (s *Images) enterLocked(im unpacked) (fresh bool) {
	if _, ok := s.images[im.ID]; ok {
		return false
	}
	s.blobs[string(im.ID)] = im.config
	for i, l := range im.layers {
		s.blobs[im.DiffIDs[i]] = l
	}
	for _, chain := range chains(im.DiffIDs) {
		delete(s.stranded, chain)
	}
	s.addLocked(im.Image)
	return true
}

func fits(im moss.Image, platform string) bool {
	have := im.OS + "/" + im.Architecture
	return platform == have || platform == have+"/"+im.Variant
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

// document is the configuration of an image.
type document struct {
	Architecture string    `json:"architecture,omitempty"`
	OS           string    `json:"os,omitempty"`
	Created      time.Time `json:"created"`
	Author       string    `json:"author,omitempty"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []event `json:"history,omitempty"`
	Config  struct {
		Cmd, Env, Entrypoint  []string
		Labels                map[string]string
		ExposedPorts, Volumes map[string]struct{}
		User, WorkingDir      string
		StopSignal            string
		StopTimeout           *int
	} `json:"config"`
}

type event struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
	Author    string    `json:"author,omitempty"`
	Comment   string    `json:"comment,omitempty"`
}

// unpack reads an image of its configuration and layers.
func unpack(config []byte, layers [][]byte) (unpacked, error) {
	var doc document
	if err := json.Unmarshal(config, &doc); err != nil {
		return unpacked{}, fmt.Errorf("the configuration is bad: %w", err)
	}
	c := doc.Config
	im := moss.Image{
		ID: moss.ImageID("sha256:" + sum(config)), Architecture: doc.Architecture, OS: doc.OS, Created: doc.Created, Author: doc.Author, DiffIDs: doc.RootFS.DiffIDs,
		Config: moss.ContainerConfig{Cmd: c.Cmd, Env: c.Env, Entrypoint: c.Entrypoint, Labels: c.Labels, User: c.User, WorkingDir: c.WorkingDir, StopSignal: c.StopSignal, StopTimeout: c.StopTimeout},
	}
	for _, h := range doc.History {
		im.History = append(im.History, moss.HistoryEntry{Created: h.Created, CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment})
		im.Comment = h.Comment
	}
	for v := range c.Volumes {
		im.Config.Volumes = append(im.Config.Volumes, v)
	}
	for p := range c.ExposedPorts {
		number, proto, _ := strings.Cut(p, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return unpacked{}, err
		}
		im.Config.ExposedPorts = append(im.Config.ExposedPorts, moss.Port{Number: uint16(n), Proto: moss.Protocol(proto)})
	}
	if len(layers) != len(im.DiffIDs) {
		return unpacked{}, errors.New("the layers are not those of the configuration")
	}
	for i, l := range layers {
		if im.DiffIDs[i] != "sha256:"+sum(l) {
			return unpacked{}, fmt.Errorf("layer %d is bad", i)
		}
		im.Size += int64(len(l))
		im.LayerSizes = append(im.LayerSizes, int64(len(l)))
	}
	return unpacked{Image: im, config: config, layers: layers}, nil
}

// pack makes the configuration of an image, and with it the id.
func pack(im moss.Image, layers [][]byte) (unpacked, error) {
	doc := document{Architecture: im.Architecture, OS: im.OS, Created: im.Created, Author: im.Author}
	doc.RootFS.Type, doc.RootFS.DiffIDs = "layers", im.DiffIDs
	for _, h := range im.History {
		doc.History = append(doc.History, event{Created: h.Created, CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment})
	}
	c := im.Config
	doc.Config.Cmd, doc.Config.Env, doc.Config.Entrypoint, doc.Config.Labels = c.Cmd, c.Env, c.Entrypoint, c.Labels
	doc.Config.User, doc.Config.WorkingDir, doc.Config.StopSignal, doc.Config.StopTimeout = c.User, c.WorkingDir, c.StopSignal, c.StopTimeout
	doc.Config.ExposedPorts, doc.Config.Volumes = map[string]struct{}{}, map[string]struct{}{}
	for _, p := range c.ExposedPorts {
		doc.Config.ExposedPorts[fmt.Sprintf("%d/%s", p.Number, p.Proto)] = struct{}{}
	}
	for _, v := range c.Volumes {
		doc.Config.Volumes[v] = struct{}{}
	}
	config, err := json.Marshal(doc)
	if err != nil {
		return unpacked{}, err
	}
	return unpack(config, layers)
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Import makes an image of a tar that is not compressed. Errors: Invalid for
// any Changes, which only the real adapter reads.
func (s *Images) Import(ctx context.Context, r io.Reader, o moss.ImportOptions) (moss.LoadedImage, error) {
	if err := s.failure(ctx, "Import"); err != nil {
		return moss.LoadedImage{}, err
	}
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
	layer, err := readLayer(r)
	if err != nil {
		return moss.LoadedImage{}, err
	}
	im := moss.Image{Created: time.Now(), Architecture: o.Architecture, OS: o.OS, DiffIDs: []string{"sha256:" + sum(layer)}}
	if im.OS == "" {
		im.OS = "linux"
	}
	im.History = []moss.HistoryEntry{{Created: im.Created, Comment: o.Message}}
	return s.keep(im, [][]byte{layer}, name)
}

// readLayer reads a tar that is not compressed.
func readLayer(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if len(b) == 1024 && bytes.Count(b, []byte{0}) == len(b) { // nothing in it
		return b, nil
	}
	_, err = untar(bytes.NewReader(b))
	return b, err
}

func (s *Images) keep(im moss.Image, layers [][]byte, name string) (moss.LoadedImage, error) {
	packed, err := pack(im, layers)
	if err != nil {
		return moss.LoadedImage{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enterLocked(packed)
	if name == "" {
		return moss.LoadedImage{ID: packed.ID}, nil
	}
	return moss.LoadedImage{ID: packed.ID, Name: familiar(name)}, s.tagLocked(packed.ID, name)
}

// EnsureBuiltin makes moss/hello, without contents.
func (s *Images) EnsureBuiltin(ctx context.Context, ref string) (bool, error) {
	if name, err := normalTag(ref); err != nil || name != builtin {
		return false, nil //nolint:nilerr // not even a name, so not ours
	}
	if _, err := s.Resolve(ctx, builtin); err == nil {
		return true, nil
	}
	_, err := s.keep(moss.Image{OS: "linux", Architecture: "amd64", Config: moss.ContainerConfig{
		Entrypoint: []string{"/moss-hello"}, ExposedPorts: []moss.Port{{Number: 80, Proto: moss.TCP}},
	}}, nil, builtin)
	return true, err
}
