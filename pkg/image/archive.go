package image

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	dockerarchive "github.com/containers/image/v5/docker/archive"
	"github.com/containers/image/v5/oci/layout"
	"github.com/containers/image/v5/types"
	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// item is one image of an archive, with the normalised names it is to get.
type item struct {
	ref   types.ImageReference
	names []string
}

// archiveIndex is what is found in an archive without reading its layers.
type archiveIndex struct {
	docker []byte // manifest.json
	oci    []byte // index.json
	layout bool   // there is an oci-layout
}

const maxIndex = 4 << 20 // bytes of a manifest.json or index.json

// scan reads the headers of a whole tar, so that one cut short is found before
// anything is made of it.
func scan(r io.Reader) (archiveIndex, error) {
	var x archiveIndex
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if n == 0 {
				return x, fmt.Errorf("this is not an image archive: %w", err)
			}
			return x, fmt.Errorf("the archive is damaged after %d files: %w", n, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		switch path.Clean(h.Name) {
		case "manifest.json":
			x.docker, err = readIndex(tr, h)
		case "index.json":
			x.oci, err = readIndex(tr, h)
		case imgspec.ImageLayoutFile:
			x.layout = true
		}
		if err != nil {
			return x, err
		}
	}
	switch {
	case x.docker != nil, x.layout && x.oci != nil:
		return x, nil
	case x.layout:
		return x, errors.New("the OCI archive has no index.json")
	}
	return x, errors.New("this is neither a docker- nor an OCI-archive: it has no manifest.json and no oci-layout; a root file system is imported, not loaded")
}

func readIndex(r io.Reader, h *tar.Header) ([]byte, error) {
	if h.Size > maxIndex {
		return nil, fmt.Errorf("%s is too large: %d bytes", h.Name, h.Size)
	}
	return io.ReadAll(r)
}

// items tells what images the archive in file f holds. cleanup removes what
// had to be unpacked for it, and is never nil.
func (s *Store) items(f *os.File) (list []item, cleanup func() error, err error) {
	cleanup = func() error { return nil }
	x, err := scan(f)
	if err != nil {
		return nil, cleanup, err
	}
	if x.docker != nil {
		list, err = dockerItems(x.docker, f.Name())
		return list, cleanup, err
	}
	descs, err := ociImages(x.oci)
	if err != nil {
		return nil, cleanup, err
	}
	dir, err := os.MkdirTemp(s.tmp, "oci-")
	if err != nil {
		return nil, cleanup, err
	}
	cleanup = func() error { return os.RemoveAll(dir) }
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, cleanup, err
	}
	if err := extractLayout(f, dir); err != nil {
		return nil, cleanup, err
	}
	for _, d := range descs {
		ref, err := layout.NewIndexReference(dir, d.index)
		if err != nil {
			return nil, cleanup, err
		}
		list = append(list, item{ref, d.names})
	}
	return list, cleanup, nil
}

func dockerItems(manifest []byte, file string) ([]item, error) {
	images, err := dockerImages(manifest)
	if err != nil {
		return nil, err
	}
	list := make([]item, 0, len(images))
	for i, names := range images {
		ref, err := dockerarchive.NewIndexReference(file, i)
		if err != nil {
			return nil, err
		}
		list = append(list, item{ref, names})
	}
	return list, nil
}

// dockerImages returns the names of each image in a manifest.json.
func dockerImages(manifest []byte) ([][]string, error) {
	var entries []struct {
		Config   string
		RepoTags []string
	}
	if err := json.Unmarshal(manifest, &entries); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(entries) == 0 {
		return nil, errors.New("the archive holds no image")
	}
	var images [][]string
	for _, e := range entries {
		if e.Config == "" {
			return nil, errors.New("manifest.json names no configuration")
		}
		var names []string
		for _, tag := range e.RepoTags {
			name, err := normalTag(tag)
			if err != nil {
				return nil, fmt.Errorf("manifest.json: %w", err)
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		images = append(images, names)
	}
	return images, nil
}

type ociImage struct {
	index int // in index.json
	names []string
}

// ociImages returns the images of an index.json. Several entries of one
// manifest are one image with several names.
func ociImages(index []byte) ([]ociImage, error) {
	var x imgspec.Index
	if err := json.Unmarshal(index, &x); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var images []ociImage
	at := map[digest.Digest]int{}
	for i, m := range x.Manifests {
		if m.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			continue // says how an image was built
		}
		if err := m.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("index.json: digest %q: %w", m.Digest, err)
		}
		n, seen := at[m.Digest]
		if !seen {
			n = len(images)
			at[m.Digest] = n
			images = append(images, ociImage{index: i})
		}
		name := m.Annotations["io.containerd.image.name"]
		// The specification's annotation is often a tag alone, which names nothing.
		if ref := m.Annotations[imgspec.AnnotationRefName]; name == "" && strings.ContainsAny(ref, ":/") {
			name = ref
		}
		if name == "" {
			continue
		}
		normal, err := normalTag(name)
		if err != nil {
			return nil, fmt.Errorf("index.json: %w", err)
		}
		if !slices.Contains(images[n].names, normal) {
			images[n].names = append(images[n].names, normal)
		}
	}
	if len(images) == 0 {
		return nil, errors.New("the archive holds no image")
	}
	return images, nil
}

// extractLayout unpacks the files that an OCI layout has, and no others. Names
// of blobs are checked, links are never followed or made.
func extractLayout(r io.Reader, dir string) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || (name != "index.json" && name != imgspec.ImageLayoutFile && !isBlob(name)) {
			continue
		}
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), tr); err != nil {
			return err
		}
	}
}

func isBlob(name string) bool {
	rest, ok := strings.CutPrefix(name, imgspec.ImageBlobsDir+"/")
	if !ok {
		return false
	}
	alg, hex, _ := strings.Cut(rest, "/")
	return digest.Digest(alg+":"+hex).Validate() == nil
}

func writeFile(name string, r io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
