package storage

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containers/storage"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// repairImages gives the images, after it has made the list of them anew where
// it is bad: those of the copy, and those that came later without their names.
func (l *lists) repairImages(bad map[string]bool) ([]storage.Image, error) {
	name := l.images()
	list, err := readList[storage.Image](name, bad[name])
	if err != nil || !bad[name] {
		return list, err
	}
	known := map[string]bool{}
	for _, im := range list {
		known[im.ID] = true
	}
	dirs, err := ids(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	nameless := 0
	for _, id := range dirs {
		if known[id] {
			continue
		}
		if im, ok := l.readImage(id); ok {
			list = append(list, im)
			nameless++
		}
	}
	if err := l.aside(name); err != nil {
		return nil, err
	}
	l.tell("the list of images was damaged: %d are back, %d of them without their names", len(list), nameless)
	return list, l.write([]string{name}, list)
}

// readImage makes the record of an image of the files that it has.
func (l *lists) readImage(id string) (storage.Image, bool) {
	dir := filepath.Join(filepath.Dir(l.images()), id)
	im := storage.Image{ID: id, BigDataSizes: map[string]int64{}, BigDataDigests: map[string]digest.Digest{}, Created: l.now.UTC()}
	files, err := os.ReadDir(dir)
	if err != nil {
		return im, false
	}
	for _, f := range files {
		key := f.Name()
		if rest, ok := strings.CutPrefix(key, "="); ok {
			b, err := base64.StdEncoding.DecodeString(rest)
			if err != nil {
				continue
			}
			key = string(b)
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return im, false
		}
		im.BigDataNames = append(im.BigDataNames, key)
		im.BigDataSizes[key], im.BigDataDigests[key] = int64(len(b)), digest.FromBytes(b)
	}
	chain := l.chain(id)
	if chain == nil {
		return im, false
	}
	if len(chain) > 0 {
		im.TopLayer = chain[len(chain)-1].Encoded()
	}
	im.Digest = im.BigDataDigests["manifest"]
	return im, true
}

// diffIDs reads the layers that an image's configuration names, nil where there is none.
func (l *lists) diffIDs(id string) []digest.Digest {
	key := "=" + base64.StdEncoding.EncodeToString([]byte("sha256:"+id))
	b, err := os.ReadFile(filepath.Join(filepath.Dir(l.images()), id, key))
	if err != nil || digest.FromBytes(b).Encoded() != id {
		return nil
	}
	var c imgspec.Image
	if json.Unmarshal(b, &c) != nil {
		return nil
	}
	return append([]digest.Digest{}, c.RootFS.DiffIDs...)
}

// chain is the ids of an image's layers.
func (l *lists) chain(id string) []digest.Digest {
	d := l.diffIDs(id)
	if d == nil {
		return nil
	}
	return identity.ChainIDs(d)
}

// layerDirs lists the layers on disk.
func (l *lists) layerDirs() ([]string, error) {
	if l.driver == driverVFS {
		return ids(filepath.Join(l.root, driverVFS, "dir"))
	}
	return ids(filepath.Join(l.root, l.driver))
}

// ids lists the directories whose name is an id.
func ids(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() && digest.SHA256.Validate(e.Name()) == nil {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// repairLayers gives the layers, after it has made their lists anew where one is bad: those of the copies, the images'
// by their configurations, and the containers' by what they stand on.
func (l *lists) repairLayers(bad map[string]bool, images []storage.Image, containers []storage.Container) ([]storage.Layer, error) {
	names := l.layers()
	old, err := readBoth[storage.Layer](names, bad)
	if err != nil || !bad[names[0]] && !bad[names[1]] {
		return old, err
	}
	dirs, err := l.layerDirs()
	if err != nil {
		return nil, err
	}
	on := map[string]bool{}
	for _, id := range dirs {
		on[id] = true
	}
	known := map[string]storage.Layer{}
	for _, layer := range old {
		known[layer.ID] = layer
	}
	for _, im := range images {
		diffs, parent := l.diffIDs(im.ID), ""
		for i, id := range l.chain(im.ID) {
			if _, ok := known[id.Encoded()]; !ok {
				known[id.Encoded()] = storage.Layer{ID: id.Encoded(), Parent: parent, UncompressedDigest: diffs[i], UncompressedSize: -1, Created: l.now.UTC()}
			}
			parent = id.Encoded()
		}
		l.addMapped(known, im, containers)
	}
	c := l.containers()
	l.addContainers(known, dirs, images, containers, bad[c[0]] || bad[c[1]])
	var list []storage.Layer
	done, busy := map[string]bool{"": true}, map[string]bool{}
	var add func(id string) bool
	add = func(id string) bool { // parents first
		layer, ok := known[id]
		if done[id] || !ok || !on[id] || busy[id] {
			return done[id]
		}
		busy[id] = true
		if !add(layer.Parent) {
			return false
		}
		done[id] = true
		list = append(list, layer)
		return true
	}
	for _, id := range dirs {
		add(id)
	}
	for _, name := range names {
		if bad[name] {
			if err := l.aside(name); err != nil {
				return nil, err
			}
		}
	}
	l.tell("the list of layers was damaged: %d of %d are back", len(list), len(dirs))
	return list, l.write(names[:], list)
}

// addMapped adds an image's copies for containers with maps of their own, whose
// maps the containers know. One that no container stands on stays out: it is
// made again when it is asked for.
func (l *lists) addMapped(known map[string]storage.Layer, im storage.Image, containers []storage.Container) {
	for _, c := range containers {
		id, ok := l.parentOnDisk(c.LayerID)
		if _, have := known[id]; !ok || have || !slices.Contains(im.MappedTopLayers, id) {
			continue
		}
		known[id] = storage.Layer{ID: id, Parent: known[im.TopLayer].Parent, UIDMap: c.UIDMap, GIDMap: c.GIDMap, Created: l.now.UTC()}
	}
}

// addContainers adds the layers of containers: of those that are listed and, where
// that list is bad, too, those that stand on an image.
func (l *lists) addContainers(known map[string]storage.Layer, dirs []string, images []storage.Image, containers []storage.Container, guess bool) {
	top, isTop := map[string]string{}, map[string]bool{}
	for _, im := range images {
		top[im.ID] = im.TopLayer
		isTop[im.TopLayer] = true
	}
	parents, of := map[string]string{}, map[string]storage.Container{}
	for _, c := range containers {
		parents[c.LayerID], of[c.LayerID] = top[c.ImageID], c
	}
	for _, id := range dirs {
		if _, ok := known[id]; ok {
			continue
		}
		parent, listed := parents[id]
		if p, ok := l.parentOnDisk(id); ok {
			parent = p
		}
		if listed || guess && parent != "" && isTop[parent] {
			known[id] = storage.Layer{ID: id, Parent: parent, UIDMap: of[id].UIDMap, GIDMap: of[id].GIDMap, Created: l.now.UTC()}
		}
	}
}

// parentOnDisk reads what a layer of overlay stands on.
func (l *lists) parentOnDisk(id string) (string, bool) {
	if l.driver != driverOverlay {
		return "", false
	}
	b, err := os.ReadFile(filepath.Join(l.root, l.driver, id, "lower"))
	if err != nil {
		return "", false
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	target, err := os.Readlink(filepath.Join(l.root, l.driver, first))
	if err != nil {
		return "", false
	}
	return filepath.Base(filepath.Dir(target)), true
}

// repairContainers makes the lists of containers anew: those of the copies, and
// one for each layer that is nobody's and has no content of an image.
func (l *lists) repairContainers(bad map[string]bool, images []storage.Image, layers []storage.Layer, old []storage.Container) error {
	there, used := map[string]bool{}, map[string]bool{}
	for _, layer := range layers {
		there[layer.ID] = true
		used[layer.Parent] = true
	}
	imageOf := map[string]string{}
	for _, im := range images {
		imageOf[im.TopLayer] = im.ID
		used[im.TopLayer] = true
	}
	var list []storage.Container
	for _, c := range old {
		if there[c.LayerID] {
			used[c.LayerID] = true
			list = append(list, c)
		}
	}
	back := 0
	for _, layer := range layers {
		if used[layer.ID] || layer.UncompressedDigest != "" || layer.CompressedDigest != "" {
			continue
		}
		back++
		list = append(list, storage.Container{ID: layer.ID, LayerID: layer.ID, ImageID: imageOf[layer.Parent], Created: layer.Created})
	}
	names := l.containers()
	for _, name := range names {
		if bad[name] {
			if err := l.aside(name); err != nil {
				return err
			}
		}
	}
	l.tell("the list of containers was damaged: %d are back", len(list))
	l.log.Warn("containers are known by their layers alone", "count", back)
	return l.write(names[:], list)
}
