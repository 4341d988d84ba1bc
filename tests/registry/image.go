package registry

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer is one layer to be made.
type Layer struct {
	Files int    // that it has; 0 means one
	Size  int    // bytes of all files together; they do not compress
	Zstd  bool   // or gzip
	Plain bool   // not compressed
	URL   string // it is foreign, and lies there
	Seed  uint64 // layers of one seed and size are the same
	Tar   []byte // taken in place of one that is made
}

// Layers makes n of a size, all different.
func Layers(n, size int) []Layer {
	all := make([]Layer, n)
	for i := range all {
		all[i] = Layer{Size: size, Seed: rand.Uint64()}
	}
	return all
}

// Image is one image to be made.
type Image struct {
	Layers   []Layer
	Docker   bool   // schema 2, or OCI
	Platform string // os/arch[/variant]; "" means this machine's
	Env      []string
	Cmd      []string
}

// Made is what a registry got.
type Made struct {
	Digest   digest.Digest // of the manifest or index
	Size     int64
	Kind     string
	Body     []byte
	Config   digest.Digest // the image's id
	Layers   []imgspec.Descriptor
	DiffIDs  []digest.Digest
	Parts    []Made // of an index
	platform imgspec.Platform
}

// Remote puts images straight into a registry.
type Remote struct {
	URL        string
	User, Pass string
	Client     *http.Client
}

// Push makes an image and puts it there.
func (r Remote) Push(t testing.TB, repo, tag string, im Image) Made {
	t.Helper()
	m, err := r.Put(repo, tag, im)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// PushIndex makes an image for each platform, with attestations beside them
// where asked for, and an index of all.
func (r Remote) PushIndex(t testing.TB, repo, tag string, attest bool, parts ...Image) Made {
	t.Helper()
	m, err := r.PutIndex(repo, tag, attest, parts...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Put is Push outside of tests; an empty tag leaves it without one.
func (r Remote) Put(repo, tag string, im Image) (m Made, err error) {
	var diffs []digest.Digest
	for _, l := range im.Layers {
		desc, diff, err := r.layer(repo, im.Docker, l)
		if err != nil {
			return m, err
		}
		m.Layers, diffs = append(m.Layers, desc), append(diffs, diff)
	}
	m.DiffIDs, m.platform = diffs, parsePlatform(im.Platform)
	config, err := json.Marshal(imgspec.Image{
		Created: &time.Time{}, Platform: m.platform,
		Config: imgspec.ImageConfig{Env: im.Env, Cmd: im.Cmd},
		RootFS: imgspec.RootFS{Type: "layers", DiffIDs: diffs},
	})
	if err != nil {
		return m, err
	}
	kind, m2 := imgspec.MediaTypeImageConfig, imgspec.MediaTypeImageManifest
	if im.Docker {
		kind, m2 = "application/vnd.docker.container.image.v1+json", "application/vnd.docker.distribution.manifest.v2+json"
	}
	desc, err := r.Blob(repo, kind, config)
	if err != nil {
		return m, err
	}
	m.Config = desc.Digest
	// Indented as docker does: whoever writes it anew is found out.
	body, err := json.MarshalIndent(imgspec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: m2, Config: desc, Layers: m.Layers}, "", "   ")
	if err != nil {
		return m, err
	}
	return r.manifest(repo, tag, m2, body, m)
}

// PutIndex is PushIndex outside of tests.
func (r Remote) PutIndex(repo, tag string, attest bool, parts ...Image) (m Made, err error) {
	index := imgspec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageIndex}
	if parts[0].Docker {
		index.MediaType = "application/vnd.docker.distribution.manifest.list.v2+json"
	}
	for _, im := range parts {
		p, err := r.Put(repo, "", im)
		if err != nil {
			return m, err
		}
		m.Parts = append(m.Parts, p)
		index.Manifests = append(index.Manifests, imgspec.Descriptor{MediaType: p.Kind, Digest: p.Digest, Size: p.Size, Platform: &p.platform})
	}
	if attest {
		for _, p := range m.Parts {
			a, err := r.attestation(repo, p)
			if err != nil {
				return m, err
			}
			index.Manifests = append(index.Manifests, a)
		}
	}
	body, err := json.Marshal(index)
	if err != nil {
		return m, err
	}
	return r.manifest(repo, tag, index.MediaType, body, m)
}

// attestation says something of an image, as BuildKit does.
func (r Remote) attestation(repo string, of Made) (imgspec.Descriptor, error) {
	const predicate = "https://slsa.dev/provenance/v0.2"
	statement := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":%q,"subject":[{"name":"x","digest":{"sha256":%q}}],"predicate":{"builder":{"id":"test"}}}`, predicate, of.Digest.Encoded())
	layer, err := r.Blob(repo, "application/vnd.in-toto+json", []byte(statement))
	if err != nil {
		return layer, err
	}
	layer.Annotations = map[string]string{"in-toto.io/predicate-type": predicate}
	unknown := imgspec.Platform{OS: "unknown", Architecture: "unknown"}
	config, err := json.Marshal(imgspec.Image{Platform: unknown, RootFS: imgspec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}}})
	if err != nil {
		return layer, err
	}
	desc, err := r.Blob(repo, imgspec.MediaTypeImageConfig, config)
	if err != nil {
		return desc, err
	}
	body, err := json.Marshal(imgspec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageManifest,
		Config: desc, Layers: []imgspec.Descriptor{layer},
	})
	if err != nil {
		return desc, err
	}
	m, err := r.manifest(repo, "", imgspec.MediaTypeImageManifest, body, Made{})
	return imgspec.Descriptor{
		MediaType: m.Kind, Digest: m.Digest, Size: m.Size, Platform: &unknown,
		Annotations: map[string]string{"vnd.docker.reference.digest": of.Digest.String(), "vnd.docker.reference.type": "attestation-manifest"},
	}, err
}

func (r Remote) layer(repo string, docker bool, l Layer) (desc imgspec.Descriptor, diff digest.Digest, err error) {
	plain := l.Tar
	if plain == nil {
		if plain, err = l.tar(); err != nil {
			return desc, "", err
		}
	}
	packed, err := l.pack(plain)
	if err != nil {
		return desc, "", err
	}
	kind := imgspec.MediaTypeImageLayer + map[bool]string{true: "+zstd", false: "+gzip"}[l.Zstd]
	switch {
	case l.URL != "" && docker:
		kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	case l.URL != "":
		kind = imgspec.MediaTypeImageLayerNonDistributableGzip //nolint:staticcheck // such images are there
	case docker && l.Plain:
		kind = "application/vnd.docker.image.rootfs.diff.tar"
	case docker:
		kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	case l.Plain:
		kind = imgspec.MediaTypeImageLayer
	}
	if l.URL != "" {
		desc = imgspec.Descriptor{MediaType: kind, Digest: digest.FromBytes(packed), Size: int64(len(packed)), URLs: []string{l.URL}}
		return desc, digest.FromBytes(plain), nil
	}
	desc, err = r.Blob(repo, kind, packed)
	return desc, digest.FromBytes(plain), err
}

// Packed returns the layer as it comes from a registry, for servers of foreign layers.
func (l Layer) Packed() ([]byte, error) {
	plain, err := l.tar()
	if err != nil {
		return nil, err
	}
	return l.pack(plain)
}

func (l Layer) tar() ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	n := max(l.Files, 1)
	rnd := rand.NewChaCha8([32]byte{byte(l.Seed), byte(l.Seed >> 8), byte(l.Seed >> 16), byte(l.Seed >> 24), byte(l.Size), byte(l.Size >> 8)})
	body := make([]byte, l.Size/n)
	for i := range n {
		_, _ = rnd.Read(body)
		name := fmt.Sprintf("layer-%x/%d/file-%d", l.Seed, i/100, i)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), ModTime: time.Unix(1700000000, 0)}); err != nil {
			return nil, err
		}
		if _, err := w.Write(body); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

func (l Layer) pack(plain []byte) ([]byte, error) {
	if l.Plain {
		return plain, nil
	}
	var b bytes.Buffer
	// What is in it is random, so more effort makes it no smaller: ten times as long, with the race detector.
	var w io.WriteCloser
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if l.Zstd {
		z, err := zstd.NewWriter(&b)
		if err != nil {
			return nil, err
		}
		w = z
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// Blob uploads one.
func (r Remote) Blob(repo, kind string, b []byte) (imgspec.Descriptor, error) {
	desc := imgspec.Descriptor{MediaType: kind, Digest: digest.FromBytes(b), Size: int64(len(b))}
	header, _, err := r.Do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil)
	if err != nil {
		return desc, err
	}
	at, err := url.Parse(r.URL)
	if err == nil {
		at, err = at.Parse(header.Get("Location"))
	}
	if err != nil {
		return desc, err
	}
	q := at.Query()
	q.Set("digest", desc.Digest.String())
	_, _, err = r.Do(http.MethodPut, at.Path+"?"+q.Encode(), "application/octet-stream", b)
	return desc, err
}

func (r Remote) manifest(repo, tag, kind string, body []byte, m Made) (Made, error) {
	m.Digest, m.Size, m.Kind, m.Body = digest.FromBytes(body), int64(len(body)), kind, body
	if tag == "" {
		tag = m.Digest.String()
	}
	_, _, err := r.Do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, kind, body)
	return m, err
}

// Manifest reads one.
func (r Remote) Manifest(repo, tag string) (body []byte, kind string, err error) {
	header, body, err := r.Do(http.MethodGet, "/v2/"+repo+"/manifests/"+tag, "", nil)
	if err != nil {
		return nil, "", err
	}
	return body, header.Get("Content-Type"), nil
}

// Do asks the registry, and returns the header and body of the answer; one from 400 on is an error.
func (r Remote) Do(method, path, kind string, body []byte) (http.Header, []byte, error) {
	req, err := http.NewRequest(method, r.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for _, k := range []string{imgspec.MediaTypeImageManifest, imgspec.MediaTypeImageIndex, "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json"} {
		req.Header.Add("Accept", k)
	}
	if r.User != "" {
		req.SetBasicAuth(r.User, r.Pass)
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 400 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, got)
	}
	return resp.Header, got, err
}

func parsePlatform(s string) imgspec.Platform {
	if s == "" {
		return imgspec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	f := append(strings.SplitN(s, "/", 3), "", "")
	return imgspec.Platform{OS: f[0], Architecture: f[1], Variant: f[2]}
}
