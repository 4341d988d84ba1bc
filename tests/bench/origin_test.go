package bench

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"runtime"
	"strings"
	"testing"
	"time"
)

// origin is a registry that only gives (OCI Distribution Specification, pull),
// from memory and in this process, whose time nobody is charged with.
type origin struct {
	*httptest.Server
	blobs map[string][]byte // by digest
	tags  map[string]string // name:tag → digest of the manifest
}

func newOrigin(b *testing.B) *origin {
	b.Helper()
	o := &origin{blobs: map[string][]byte{}, tags: map[string]string{}}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	b.Cleanup(o.Close)
	return o
}

func (o *origin) host() string { return strings.TrimPrefix(o.URL, "http://") }

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	if rest == "" {
		return
	}
	dir, ref := path.Split(rest)
	if name, isManifest := strings.CutSuffix(dir, "/manifests/"); isManifest {
		if d, ok := o.tags[name+":"+ref]; ok {
			ref = d
		}
		w.Header().Set("Content-Type", ociManifest)
		w.Header().Set("Docker-Content-Digest", ref)
	}
	blob, ok := o.blobs[ref]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

func (o *origin) put(mediaType string, blob []byte) descriptor {
	d := fmt.Sprintf("sha256:%x", sha256.Sum256(blob))
	o.blobs[d] = blob
	return descriptor{mediaType, d, len(blob)}
}

// add makes an image of layers' tars and gives it a name.
func (o *origin) add(b *testing.B, name string, layers ...[]byte) {
	b.Helper()
	var diffs []string
	var descs []descriptor
	for _, l := range layers {
		diffs = append(diffs, fmt.Sprintf("sha256:%x", sha256.Sum256(l)))
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		if _, err := w.Write(l); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		descs = append(descs, o.put(ociLayer, z.Bytes()))
	}
	config := configOf(b, diffs)
	manifest := marshal(b, map[string]any{
		"schemaVersion": 2, "mediaType": ociManifest, "config": o.put(ociConfig, config), "layers": descs,
	})
	o.tags[name] = o.put(ociManifest, manifest).Digest
}

func configOf(b *testing.B, diffs []string) []byte {
	b.Helper()
	return marshal(b, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": epoch, "config": map[string]any{"Cmd": []string{"/none"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
}

var epoch = time.Unix(1_700_000_000, 0).UTC()

func marshal(b *testing.B, v any) []byte {
	b.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		b.Fatal(err)
	}
	return data
}

// tree makes a layer's tar of files of these sizes, a hundred to a directory,
// with content that gzip makes a third of, as it does of programs.
func tree(b *testing.B, seed uint64, files int, size func(*rand.Rand) int) []byte {
	b.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 4096)
	for i := range words {
		w := make([]byte, 4+rng.IntN(12))
		for k := range w {
			w[k] = byte(rng.IntN(256))
		}
		words[i] = w
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	header := func(h tar.Header) {
		h.ModTime = epoch
		if err := w.WriteHeader(&h); err != nil {
			b.Fatal(err)
		}
	}
	var body bytes.Buffer
	for i := range files {
		dir := fmt.Sprintf("srv/%d/%03d/", seed, i/100)
		if i%100 == 0 {
			header(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755})
		}
		body.Reset()
		for n := size(rng); body.Len() < n; {
			body.Write(words[rng.IntN(len(words))])
		}
		header(tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%sfile-%05d.txt", dir, i), Mode: 0o644, Size: int64(body.Len())})
		if _, err := io.Copy(w, &body); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// The images: large is like those that people run, of 8 layers, 180 MB and
// files of all sizes; many has 50,000 files, as interpreters' package managers
// make them.
const (
	large = "large"
	many  = "many"
)

// layers of a named image; those of each variant are others.
func (o *origin) layers(b *testing.B, name string, variant int) [][]byte {
	b.Helper()
	seed := uint64(variant) * 10
	if name == many {
		return [][]byte{tree(b, seed+9, 50_000, func(r *rand.Rand) int { return r.IntN(4000) })}
	}
	var all [][]byte
	for i := range uint64(8) {
		all = append(all, tree(b, seed+i, 280, func(r *rand.Rand) int {
			if r.IntN(20) == 0 {
				return 1_000_000 + r.IntN(700_000)
			}
			return r.IntN(28_000)
		}))
	}
	return all
}

// ref names the variant of an image, which is made when it is asked for, which takes seconds: the
// last one is kept, and each time the same is made.
func (o *origin) ref(b *testing.B, name string, variant int) string {
	b.Helper()
	tag := fmt.Sprintf("bench/%s:%d", name, variant)
	if _, ok := o.tags[tag]; !ok {
		clear(o.blobs)
		clear(o.tags)
		o.add(b, tag, o.layers(b, name, variant)...)
	}
	return o.host() + "/" + tag
}

// archive writes the variant of an image as docker save would.
func (o *origin) archive(b *testing.B, file, name string, variant int) error {
	b.Helper()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(f)
	put := func(name string, data []byte) string {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data)), ModTime: epoch}))
		_, werr := w.Write(data)
		err = errors.Join(err, werr)
		return name
	}
	var diffs, paths []string
	for _, l := range o.layers(b, name, variant) {
		sum := fmt.Sprintf("%x", sha256.Sum256(l))
		diffs, paths = append(diffs, "sha256:"+sum), append(paths, put(sum+".tar", l))
	}
	config := configOf(b, diffs)
	manifest := []map[string]any{{
		"Config": put(fmt.Sprintf("%x.json", sha256.Sum256(config)), config), "Layers": paths,
		"RepoTags": []string{fmt.Sprintf("localhost/bench/loaded-%s:%d", name, variant)},
	}}
	put("manifest.json", marshal(b, manifest))
	return errors.Join(err, w.Close(), f.Close())
}
