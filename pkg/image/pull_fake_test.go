package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/engine/porttest"
	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
)

// fakeRegistry is a registry in memory. The hooks make it fail.
type fakeRegistry struct {
	mu        sync.Mutex
	tags      map[string]digest.Digest // by name:tag
	manifests map[digest.Digest]manifestOf
	blobs     map[digest.Digest][]byte
	asked     map[string]int // by what was asked for
	open      int            // sources not closed

	blob    func(ctx context.Context, d digest.Digest, nth int, b []byte) (io.Reader, error) // what comes in place of b
	opened  func(nth int) error
	allowed func(instance *digest.Digest) error
}

type manifestOf struct {
	b    []byte
	kind string
}

func newFakeRegistry() *fakeRegistry {
	return &fakeRegistry{tags: map[string]digest.Digest{}, manifests: map[digest.Digest]manifestOf{}, blobs: map[digest.Digest][]byte{}, asked: map[string]int{}}
}

func (f *fakeRegistry) ask(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[what]++
	return f.asked[what]
}

func (f *fakeRegistry) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[what]
}

func (f *fakeRegistry) Open(_ context.Context, ref string, _ moss.Credentials) (imageSource, error) {
	n := f.ask("open " + ref)
	if f.opened != nil {
		if err := f.opened(n); err != nil {
			return nil, err
		}
	}
	named, err := reference.ParseNamed(ref)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, ok := f.tags[ref]
	if by, digested := named.(reference.Digested); digested {
		d = by.Digest()
		_, ok = f.manifests[d]
	}
	if !ok {
		return nil, moss.Errorf(moss.NotFound, "manifest for %s not found", ref)
	}
	f.open++
	return &fakeSource{f: f, top: d}, nil
}

func (f *fakeRegistry) Tags(_ context.Context, repo string, _ moss.Credentials) (list []string, _ error) {
	for name := range f.tags {
		if tag, ok := strings.CutPrefix(name, repo+":"); ok {
			list = append(list, tag)
		}
	}
	return list, nil
}

func (f *fakeRegistry) Retryable(err error) (time.Duration, bool) { return registry.Retryable(err) }

type fakeSource struct {
	f      *fakeRegistry
	top    digest.Digest
	closed bool
}

func (s *fakeSource) Manifest(_ context.Context, instance *digest.Digest) ([]byte, string, error) {
	d := s.top
	if instance != nil {
		d = *instance
	}
	s.f.ask("manifest " + d.String())
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	m, ok := s.f.manifests[d]
	if !ok || s.closed {
		return nil, "", moss.Errorf(moss.NotFound, "no manifest %s", d)
	}
	return m.b, m.kind, nil
}

func (s *fakeSource) Blob(ctx context.Context, d digest.Digest, _ int64, _ []string) (io.ReadCloser, int64, error) {
	n := s.f.ask("blob " + d.String())
	s.f.mu.Lock()
	b, ok := s.f.blobs[d]
	closed := s.closed
	s.f.mu.Unlock()
	if !ok || closed {
		return nil, 0, moss.Errorf(moss.NotFound, "no blob %s (closed: %v)", d, closed)
	}
	var r io.Reader = bytes.NewReader(b)
	if s.f.blob != nil {
		other, err := s.f.blob(ctx, d, n, b)
		if err != nil {
			return nil, 0, err
		}
		if other != nil {
			r = other
		}
	}
	return io.NopCloser(r), int64(len(b)), nil
}

func (s *fakeSource) Allowed(_ context.Context, instance *digest.Digest) error {
	if s.f.allowed == nil {
		return nil
	}
	return s.f.allowed(instance)
}

func (s *fakeSource) Close() error {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if s.closed {
		return errors.New("closed twice")
	}
	s.closed = true
	s.f.open--
	return nil
}

// made is an image in the fake registry.
type madeImage struct {
	id       moss.ImageID
	manifest digest.Digest
	man      imgspec.Manifest
	config   imgspec.Image
	chains   []string
}

func (f *fakeRegistry) put(mediaType string, b []byte) imgspec.Descriptor {
	d := digest.FromBytes(b)
	f.blobs[d] = b
	return imgspec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (f *fakeRegistry) putManifest(t testing.TB, kind string, v any, tags ...string) imgspec.Descriptor {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	d := digest.FromBytes(b)
	f.manifests[d] = manifestOf{b, kind}
	for _, tag := range tags {
		f.tags[tag] = d
	}
	return imgspec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(b))}
}

// image makes one of layers with one file each, named by its text; change may alter what is made.
func (f *fakeRegistry) image(t testing.TB, tag, arch, form string, change func(*imgspec.Manifest, *imgspec.Image), texts ...string) madeImage {
	t.Helper()
	var m madeImage
	kind, configKind, layerKind := imgspec.MediaTypeImageManifest, imgspec.MediaTypeImageConfig, imgspec.MediaTypeImageLayerGzip
	switch form {
	case "docker":
		kind, configKind, layerKind = "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"
	case "zstd":
		layerKind = imgspec.MediaTypeImageLayerZstd
	}
	alg := map[string]string{"zstd": "zstd"}[form]
	if alg == "" {
		alg = "gzip"
	}
	m.man = imgspec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: kind, Layers: []imgspec.Descriptor{}}
	m.config = imgspec.Image{Platform: imgspec.Platform{OS: "linux", Architecture: arch}, RootFS: imgspec.RootFS{Type: "layers"}}
	for _, text := range texts {
		name, _, _ := strings.Cut(text, " ")
		plain := porttest.Tar(t, porttest.File{Name: name, Type: tar.TypeReg, Text: text})
		m.config.RootFS.DiffIDs = append(m.config.RootFS.DiffIDs, digest.FromBytes(plain))
		m.man.Layers = append(m.man.Layers, f.put(layerKind, compressed(t, alg, plain)))
		m.chains = append(m.chains, layer.ChainID(m.config.RootFS.DiffIDs))
	}
	m.man.Config.MediaType = configKind
	if change != nil {
		change(&m.man, &m.config)
	}
	config, err := json.Marshal(m.config)
	must(t, err)
	if m.man.Config.Digest == "" {
		m.man.Config = f.put(m.man.Config.MediaType, config)
	}
	m.id = moss.ImageID(m.man.Config.Digest)
	var tags []string
	if tag != "" {
		tags = append(tags, tag)
	}
	m.manifest = f.putManifest(t, m.man.MediaType, m.man, tags...).Digest
	return m
}

// lines collects progress; it must not be called twice at once.
type lines struct {
	t   testing.TB
	now sync.Mutex
	all []moss.Progress
}

func (l *lines) add(p moss.Progress) {
	if !l.now.TryLock() {
		l.t.Error("progress is called twice at once")
		return
	}
	defer l.now.Unlock()
	l.all = append(l.all, p)
}

// text is the lines without counts, each change of status once.
func (l *lines) text() (list []string) {
	last := map[string]string{}
	for _, p := range l.all {
		line := strings.TrimPrefix(p.ID+": ", ": ") + p.Status
		if last[p.ID] != line {
			list = append(list, line)
		}
		last[p.ID] = line
	}
	return list
}

func (l *lines) has(part string) bool {
	return slices.ContainsFunc(l.text(), func(s string) bool { return strings.Contains(s, part) })
}

// pullStore is a store that pulls from the fake.
func pullStore(t testing.TB, f *fakeRegistry) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	usePuller(s, f)
	t.Cleanup(func() {
		if f.open != 0 {
			t.Errorf("%d sources are not closed", f.open)
		}
	})
	return s
}

func usePuller(s *Store, f *fakeRegistry) {
	s.registries = f
	s.transfers = transfer.New(transfer.Limits{}, nil)
}

func pull(t testing.TB, s *Store, ref string) (moss.PulledImage, *lines, error) {
	t.Helper()
	return pullFor(t.Context(), t, s, moss.PullRequest{Ref: ref})
}

func pullFor(ctx context.Context, t testing.TB, s *Store, r moss.PullRequest) (moss.PulledImage, *lines, error) {
	t.Helper()
	l := &lines{t: t}
	got, err := s.Pull(ctx, r, l.add)
	if err != nil {
		return moss.PulledImage{}, l, err
	}
	if len(got) != 1 {
		t.Fatalf("Pull is %+v", got)
	}
	return got[0], l, nil
}

// unusedLayers are those that no image has; half lists what must never be: anything else.
func unusedLayers(t testing.TB, s *Store) []string {
	t.Helper()
	all, err := s.all()
	must(t, err)
	return slices.Sorted(slices.Values(s.unneeded(all, true)))
}

// sound checks what holds after whatever happened to a pull.
func sound(t testing.TB, s *Store) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(s.store.GraphRoot(), "overlay", "*"))
	must(t, err)
	for _, d := range dirs {
		switch name := filepath.Base(d); {
		case len(name) == 64:
			if _, err := s.store.Layer(name); err != nil {
				t.Errorf("directory without a layer: %s", name)
			}
		case strings.Contains(name, "temp") || name == "staging":
			left, _ := filepath.Glob(filepath.Join(d, "*"))
			if len(left) > 0 && name != "tempdirs" {
				t.Errorf("left behind: %q", left)
			}
		}
	}
	raw, err := s.store.Images()
	must(t, err)
	for _, im := range raw {
		got, ok := s.get(moss.ImageID("sha256:" + im.ID))
		if !ok || len(got.Names)+len(got.Digests) != len(im.Names) {
			t.Errorf("image %.12s: the index has %v of %q", im.ID, ok, im.Names)
		}
	}
	for name, id := range s.names {
		if im, ok := s.get(id); !ok || !slices.Contains(slices.Concat(im.Names, im.Digests), name) {
			t.Errorf("name %s leads to no image that has it", name)
		}
	}
}

type countingReader struct {
	r    io.Reader
	stop int // after so many bytes …
	err  error
}

func (c *countingReader) Read(p []byte) (int, error) {
	if c.stop <= 0 {
		return 0, c.err
	}
	n, err := c.r.Read(p[:min(len(p), c.stop)])
	c.stop -= n
	return n, err
}

// breakAt gives so many bytes, then an error.
func breakAt(b []byte, n int, err error) io.Reader {
	return &countingReader{bytes.NewReader(b), n, err}
}

func name(tag string) string { return fmt.Sprintf("docker.io/library/%s", tag) }
