package porttest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/moss-containers/moss/pkg/moss"
)

// File is one entry of a layer; a zero Type is a regular file.
type File struct {
	Name, Text, Link string
	Type             byte
	UID, GID         int
	Mode             int64 // 0 means 0644
}

// ArchiveImage is one image to put into an archive.
type ArchiveImage struct {
	Tags   []string
	Config string // JSON of the configuration's "config"; "" for none
	Layers [][]File
	// Architecture is amd64 where it is empty.
	Architecture string
	// WrongDiffID makes the configuration name another layer than there is.
	WrongDiffID bool
}

// ID is the id that the image has once it is loaded.
func (a ArchiveImage) ID(t testing.TB) moss.ImageID {
	return moss.ImageID("sha256:" + Sum(a.config(t)))
}

func (a ArchiveImage) config(t testing.TB) []byte {
	arch := a.Architecture
	if arch == "" {
		arch = "amd64"
	}
	cfg := map[string]any{"architecture": arch, "os": "linux", "created": "2026-02-03T04:05:06Z"}
	if a.Config != "" {
		cfg["config"] = json.RawMessage(a.Config)
	}
	diffs := []string{}
	for _, l := range a.Layers {
		sum := Sum(Tar(t, l...))
		if a.WrongDiffID {
			sum = Sum([]byte("other"))
		}
		diffs = append(diffs, "sha256:"+sum)
	}
	cfg["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffs}
	b, err := json.Marshal(cfg)
	must(t, err)
	return b
}

// Tar makes a tar of files.
func Tar(t testing.TB, files ...File) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Typeflag: f.Type, Linkname: f.Link, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Size: int64(len(f.Text))}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(f.Text))
		must(t, err)
	}
	must(t, w.Close())
	return buf.Bytes()
}

// DockerArchive makes what docker save makes of images.
func DockerArchive(t testing.TB, images ...ArchiveImage) []byte {
	t.Helper()
	type entry struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var files []File
	var entries []entry
	for i, im := range images {
		cfg := im.config(t)
		e := entry{Config: Sum(cfg) + ".json", RepoTags: im.Tags}
		files = append(files, File{Name: e.Config, Text: string(cfg)})
		for j, l := range im.Layers {
			name := fmt.Sprintf("%d-%d/layer.tar", i, j)
			e.Layers = append(e.Layers, name)
			files = append(files, File{Name: name, Text: string(Tar(t, l...))})
		}
		entries = append(entries, e)
	}
	m, err := json.Marshal(entries)
	must(t, err)
	return Tar(t, append(files, File{Name: "manifest.json", Text: string(m)})...)
}

// OCIArchive makes an OCI image layout of images, each tag by the annotation
// that containerd writes.
func OCIArchive(t testing.TB, images ...ArchiveImage) []byte {
	t.Helper()
	files := []File{{Name: "oci-layout", Text: `{"imageLayoutVersion":"1.0.0"}`}}
	blob := func(mediaType string, b []byte) map[string]any {
		files = append(files, File{Name: "blobs/sha256/" + Sum(b), Text: string(b)})
		return map[string]any{"mediaType": mediaType, "digest": "sha256:" + Sum(b), "size": len(b)}
	}
	var manifests []map[string]any
	for _, im := range images {
		layers := []any{}
		for _, l := range im.Layers {
			layers = append(layers, blob("application/vnd.oci.image.layer.v1.tar", Tar(t, l...)))
		}
		config := blob("application/vnd.oci.image.config.v1+json", im.config(t))
		m, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers})
		must(t, err)
		tags := im.Tags
		if len(tags) == 0 {
			tags = []string{""}
		}
		for _, tag := range tags {
			d := blob("application/vnd.oci.image.manifest.v1+json", m)
			if tag != "" {
				d["annotations"] = map[string]string{"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": "latest"}
			}
			manifests = append(manifests, d)
		}
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": manifests})
	must(t, err)
	return Tar(t, append(files, File{Name: "index.json", Text: string(index)})...)
}

// Sum is the sha256 of b in hex.
func Sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
