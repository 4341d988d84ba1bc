package porttest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Registry is a registry that the contracts of [engine.ImageTransfers] and
// [engine.Registries] are tried on: one in memory, or a real one.
type Registry interface {
	// Host is what names begin with.
	Host() string
	PutBlob(t *testing.T, repo string, data []byte)
	// PutManifest puts it under its digest, and under a tag if that is not empty.
	PutManifest(t *testing.T, repo, tag, mediaType string, data []byte)
	// Manifest returns what is there under a tag or a digest; nil for nothing.
	Manifest(t *testing.T, repo, ref string) []byte
}

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
)

// Publish puts an image at a registry, and returns its manifest's digest.
func Publish(t *testing.T, r Registry, repo, tag string, im ArchiveImage) string {
	t.Helper()
	config := im.config(t)
	r.PutBlob(t, repo, config)
	layers := []any{}
	for _, l := range im.Layers {
		b := Tar(t, l...)
		r.PutBlob(t, repo, b)
		layers = append(layers, describe("application/vnd.oci.image.layer.v1.tar", b))
	}
	m, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "layers": layers,
		"config": describe("application/vnd.oci.image.config.v1+json", config),
	})
	must(t, err)
	r.PutManifest(t, repo, tag, typeManifest, m)
	return "sha256:" + Sum(m)
}

// PublishIndex puts images of several architectures at a registry under one tag, and
// returns the index's digest.
func PublishIndex(t *testing.T, r Registry, repo, tag string, images ...ArchiveImage) string {
	t.Helper()
	var manifests []any
	for _, im := range images {
		digest := Publish(t, r, repo, "", im)
		d := describe(typeManifest, r.Manifest(t, repo, digest))
		arch := im.Architecture
		if arch == "" {
			arch = "amd64"
		}
		d["platform"] = map[string]string{"os": "linux", "architecture": arch}
		manifests = append(manifests, d)
	}
	m, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests})
	must(t, err)
	r.PutManifest(t, repo, tag, typeIndex, m)
	return "sha256:" + Sum(m)
}

func describe(mediaType string, b []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": "sha256:" + Sum(b), "size": len(b)}
}

// RegistryAt is a real registry, spoken to in plain HTTP or TLS as base says
// ("http://localhost:5000").
type RegistryAt struct {
	Base               string
	Username, Password string
	Client             *http.Client // nil means the default one
}

// Host implements [Registry].
func (r RegistryAt) Host() string {
	_, host, _ := strings.Cut(r.Base, "://")
	return host
}

// PutBlob implements [Registry].
func (r RegistryAt) PutBlob(t *testing.T, repo string, data []byte) {
	t.Helper()
	res := r.do(t, http.MethodPost, r.Base+"/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	to, err := url.Parse(res.Header.Get("Location"))
	must(t, err)
	base, err := url.Parse(r.Base)
	must(t, err)
	to = base.ResolveReference(to)
	q := to.Query()
	q.Set("digest", "sha256:"+Sum(data))
	to.RawQuery = q.Encode()
	r.do(t, http.MethodPut, to.String(), "application/octet-stream", data, http.StatusCreated)
}

// PutManifest implements [Registry].
func (r RegistryAt) PutManifest(t *testing.T, repo, tag, mediaType string, data []byte) {
	t.Helper()
	if tag == "" {
		tag = "sha256:" + Sum(data)
	}
	r.do(t, http.MethodPut, r.Base+"/v2/"+repo+"/manifests/"+tag, mediaType, data, http.StatusCreated)
}

// Manifest implements [Registry].
func (r RegistryAt) Manifest(t *testing.T, repo, ref string) []byte {
	t.Helper()
	res := r.do(t, http.MethodGet, r.Base+"/v2/"+repo+"/manifests/"+ref, "", nil, http.StatusOK, http.StatusNotFound)
	if res.StatusCode == http.StatusNotFound {
		return nil
	}
	return res.body
}

type response struct {
	*http.Response
	body []byte
}

func (r RegistryAt) do(t *testing.T, method, to, mediaType string, body []byte, want ...int) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, to, bytes.NewReader(body))
	must(t, err)
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	req.Header.Set("Accept", strings.Join([]string{
		typeManifest, typeIndex, "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	}, ", "))
	if r.Username != "" {
		req.SetBasicAuth(r.Username, r.Password)
	}
	client := r.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	must(t, err)
	defer func() { must(t, res.Body.Close()) }()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	if !slices.Contains(want, res.StatusCode) {
		t.Fatalf("the registry says %s to %s %s: %s", res.Status, method, to, b)
	}
	return response{res, b}
}
