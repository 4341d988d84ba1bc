package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/directory"
	"github.com/containers/image/v5/signature"
	is "github.com/containers/image/v5/storage"
	"github.com/containers/storage"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/pkg/image/layer"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
)

func TestPull(t *testing.T) {
	for _, form := range []string{"oci", "docker", "zstd"} {
		t.Run(form, func(t *testing.T) {
			f := newFakeRegistry()
			m := f.image(t, name("box:1"), "amd64", form, nil, "a one", "b two", "c three")
			s := pullStore(t, f)
			got, l, err := pull(t, s, "box:1")
			must(t, err)
			want := moss.PulledImage{Ref: name("box:1"), ID: m.id, Digest: m.manifest.String(), New: true}
			if got != want {
				t.Errorf("Pull is %+v, want %+v", got, want)
			}
			text := l.text()
			if text[0] != "1: Pulling from library/box" || text[len(text)-2] != "Digest: "+m.manifest.String() || text[len(text)-1] != "Status: Downloaded newer image for box:1" {
				t.Errorf("progress is\n%s", strings.Join(text, "\n"))
			}
			for _, d := range m.man.Layers {
				id := shortDigest(d.Digest)
				for _, status := range []string{"Pulling fs layer", "Pull complete"} {
					if !l.has(id + ": " + status) {
						t.Errorf("no %q for %s in\n%s", status, id, strings.Join(text, "\n"))
					}
				}
				// Where the one on top of it asked for it first, its beginning has gone by.
				if l.has(id+": Downloading") && !l.has(id+": Download complete") {
					t.Errorf("no end of the download of %s in\n%s", id, strings.Join(text, "\n"))
				}
			}
			im, err := s.Resolve(t.Context(), "box@"+m.manifest.String())
			must(t, err)
			if !slices.Equal(im.Names, []string{name("box:1")}) || !slices.Equal(im.Digests, []string{name("box@" + m.manifest.String())}) || im.Digest != m.manifest.String() || len(im.LayerSizes) != 3 || im.TaggedAt.IsZero() {
				t.Errorf("image is %+v", im)
			}
			if im.MediaType != m.man.MediaType || im.ManifestSize != int64(len(f.manifests[m.manifest].b)) {
				t.Errorf("its manifest is %q of %d bytes", im.MediaType, im.ManifestSize)
			}
			raw, err := s.store.Image(hexOf(m.id))
			must(t, err)
			if raw.TopLayer != m.chains[2] {
				t.Errorf("top layer is %s, want %s", raw.TopLayer, m.chains[2])
			}
			readable(t, s, "box:1", m.man)

			again, l, err := pull(t, s, "box:1")
			must(t, err)
			if again.New || again.ID != m.id || !l.has("Status: Image is up to date for box:1") || f.count("blob "+string(m.id)) != 1 {
				t.Errorf("the second time: %+v\n%s", again, strings.Join(l.text(), "\n"))
			}
			byDigest, _, err := pull(t, s, "box@"+m.manifest.String())
			must(t, err)
			if byDigest.New || byDigest.ID != m.id {
				t.Errorf("by digest: %+v", byDigest)
			}
			sound(t, s)
		})
	}
}

// readable checks that the containers tools read our record: that is how a push does it.
func readable(t *testing.T, s *Store, ref string, man imgspec.Manifest) {
	t.Helper()
	src, err := is.Transport.ParseStoreReference(s.store, ref)
	must(t, err)
	dir := t.TempDir()
	dest, err := directory.NewReference(dir)
	must(t, err)
	policy, err := signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
	must(t, err)
	defer policy.Destroy()
	b, err := copy.Image(t.Context(), policy, dest, src, &copy.Options{SourceCtx: s.sys, DestinationCtx: s.sys, RemoveSignatures: true})
	must(t, err)
	var got imgspec.Manifest
	must(t, json.Unmarshal(b, &got))
	if got.Config.Digest != man.Config.Digest || len(got.Layers) != len(man.Layers) {
		t.Errorf("copied %s", b)
	}
}

func TestPullIndex(t *testing.T) {
	f := newFakeRegistry()
	amd := f.image(t, "", "amd64", "oci", nil, "a amd")
	arm := f.image(t, "", "arm", "docker", nil, "a arm")
	desc := func(m madeImage, p imgspec.Platform) imgspec.Descriptor {
		return imgspec.Descriptor{MediaType: m.man.MediaType, Digest: m.manifest, Size: int64(len(f.manifests[m.manifest].b)), Platform: &p}
	}
	inner := f.putManifest(t, imgspec.MediaTypeImageIndex, imgspec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageIndex, Manifests: []imgspec.Descriptor{desc(arm, imgspec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"})}})
	top := f.putManifest(t, imgspec.MediaTypeImageIndex, imgspec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageIndex,
		Manifests: []imgspec.Descriptor{inner, desc(amd, imgspec.Platform{OS: "linux", Architecture: "amd64"})},
	}, name("multi:latest"))
	s := pullStore(t, f)
	want := func(platform string, m madeImage) {
		t.Helper()
		got, _, err := pullFor(t.Context(), t, s, moss.PullRequest{Ref: name("multi:latest"), Platform: platform})
		must(t, err)
		if got.ID != m.id || got.Digest != top.Digest.String() || !got.New {
			t.Errorf("for %q: %+v, want %s", platform, got, m.id)
		}
		im, err := s.Resolve(t.Context(), "multi@"+top.Digest.String())
		must(t, err)
		if im.ID != m.id || im.Digest != m.manifest.String() {
			t.Errorf("by the digest of the index: %+v", im)
		}
		sound(t, s)
	}
	want("linux/amd64", amd)
	readable(t, s, "multi:latest", amd.man)
	want("linux/arm64", arm) // arm/v6 programs run on it
	im, err := s.Resolve(t.Context(), string(amd.id))
	must(t, err)
	if len(im.Names)+len(im.Digests) != 0 {
		t.Errorf("the old image is still called %q %q", im.Names, im.Digests)
	}
	_, _, err = pullFor(t.Context(), t, s, moss.PullRequest{Ref: name("multi:latest"), Platform: "linux/s390x"})
	if moss.ClassOf(err) != moss.NotFound || !strings.Contains(err.Error(), `cannot pull "multi:latest": no matching manifest for linux/s390x in the manifest list entries`) {
		t.Errorf("for s390x: %v", err)
	}
}

func TestMatchingPlatforms(t *testing.T) {
	list := []imgspec.Descriptor{{Size: 0}}
	for i, p := range []string{"linux/arm/v5", "linux/arm/v7", "linux/386", "linux/amd64", "linux/amd64/v3", "windows/amd64", "linux/arm64/v8", "linux/arm64/v9"} {
		plat, err := parsePlatform(p)
		must(t, err)
		list = append(list, imgspec.Descriptor{Size: int64(i + 1), Platform: &plat})
	}
	list = append(list, imgspec.Descriptor{Size: 99, Platform: &imgspec.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}})
	for _, c := range []struct {
		want  string
		sizes []int64
	}{
		{"linux/amd64", []int64{4, 3, 0}},
		{"linux/amd64/v1", []int64{4, 3, 0}},
		{"linux/amd64/v4", []int64{5, 4, 3, 0}},
		{"linux/arm64", []int64{7, 2, 1, 0}},
		{"linux/arm64/v8", []int64{7, 2, 1, 0}},
		{"linux/arm64/v9", []int64{8, 7, 2, 1, 0}},
		{"linux/arm", []int64{2, 1, 0}},
		{"linux/arm/v6", []int64{1, 0}},
		{"linux/x86_64", []int64{4, 3, 0}},
		{"windows/amd64", []int64{6, 0}},
		{"linux/riscv64", []int64{0}},
	} {
		p, err := parsePlatform(c.want)
		must(t, err)
		var got []int64
		for _, d := range matching(list, p) {
			got = append(got, d.Size)
		}
		if !slices.Equal(got, c.sizes) {
			t.Errorf("for %s: %v, want %v", c.want, got, c.sizes)
		}
	}
}

func TestPullRefuses(t *testing.T) {
	f := newFakeRegistry()
	odd := map[string]func(*imgspec.Manifest, *imgspec.Image){
		"artifact": func(m *imgspec.Manifest, _ *imgspec.Image) {
			m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
		},
		"norootfs":  func(_ *imgspec.Manifest, c *imgspec.Image) { c.RootFS = imgspec.RootFS{} },
		"fewer":     func(_ *imgspec.Manifest, c *imgspec.Image) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] },
		"baddiff":   func(_ *imgspec.Manifest, c *imgspec.Image) { c.RootFS.DiffIDs[0] = "sha256:../../x" },
		"wrongdiff": func(_ *imgspec.Manifest, c *imgspec.Image) { c.RootFS.DiffIDs[1] = digest.FromString("other") },
		"windows":   func(_ *imgspec.Manifest, c *imgspec.Image) { c.OS = "windows" },
		"wasm": func(m *imgspec.Manifest, _ *imgspec.Image) {
			m.Layers[0].MediaType = "application/vnd.wasm.content.layer.v1+wasm"
		},
		"encrypted": func(m *imgspec.Manifest, _ *imgspec.Image) { m.Layers[0].MediaType += "+encrypted" },
		"badlayer":  func(m *imgspec.Manifest, _ *imgspec.Image) { m.Layers[0].Digest = "sha256:../x" },
		"longer":    func(m *imgspec.Manifest, _ *imgspec.Image) { m.Layers[0].Size-- },
	}
	for tag, change := range odd {
		f.image(t, name(tag+":latest"), "amd64", "oci", change, "a "+tag, "b "+tag)
	}
	config := f.image(t, name("config:latest"), "amd64", "oci", nil, "x config")
	f.blobs[digest.Digest(config.id)] = []byte(`{"other":1}`)
	lying := f.image(t, name("lying:latest"), "amd64", "oci", nil, "x lying")
	f.blobs[lying.man.Layers[0].Digest] = bytes.Repeat([]byte("lie "), int(lying.man.Layers[0].Size/4+1))[:lying.man.Layers[0].Size]
	top := f.image(t, "", "amd64", "oci", nil, "x top")
	f.manifests[digest.FromString("asked")] = f.manifests[top.manifest]
	f.tags[name("one:latest")] = f.putManifest(t, "application/vnd.docker.distribution.manifest.v1+prettyjws", map[string]any{"schemaVersion": 1, "fsLayers": []string{}}).Digest
	f.tags[name("both:latest")] = f.putManifest(t, imgspec.MediaTypeImageManifest, map[string]any{"schemaVersion": 2, "config": config.man.Config, "layers": []string{}, "manifests": []string{}}).Digest
	f.tags[name("other:latest")] = f.putManifest(t, imgspec.MediaTypeImageManifest, map[string]any{"schemaVersion": 2, "mediaType": imgspec.MediaTypeImageIndex, "manifests": []string{}}).Digest
	for ref, want := range map[string]string{
		"artifact": `artifact of type "application/vnd.cncf.helm.config.v1+json"`, "norootfs": "invalid rootfs", "fewer": "layers from manifest don't match image configuration",
		"baddiff": "is not a sha256", "wrongdiff": "filesystem layer verification failed for digest", "windows": "operating system is not supported",
		"wasm": "no root file system", "encrypted": "encrypted", "badlayer": "in the manifest", "longer": "filesystem layer verification failed",
		"config": "does not have that digest", "lying": "twice", "one": "schema 1 support has been removed", "both": "ambiguous", "other": "by the registry",
		"none": "not found", "NO NAME": "invalid reference format", "asked@" + digest.FromString("asked").String(): "manifest verification failed for digest",
	} {
		t.Run(strings.ReplaceAll(ref, " ", "-"), func(t *testing.T) {
			s := pullStore(t, f)
			_, _, err := pull(t, s, ref)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "cannot pull ") {
				t.Fatalf("Pull is %v", err)
			}
			if class := moss.ClassOf(err); class == moss.Internal || class == moss.Unavailable {
				t.Errorf("%v is %v", err, class)
			}
			if len(s.images)+len(s.names) > 0 {
				t.Errorf("there are images: %v", s.images)
			}
			sound(t, s)
		})
	}
	if n := f.count("blob " + lying.man.Layers[0].Digest.String()); n != 2 {
		t.Errorf("a layer with a wrong digest was asked for %d times", n)
	}
}

func TestPullRetries(t *testing.T) {
	f := newFakeRegistry()
	m := f.image(t, name("box:1"), "amd64", "oci", nil, "a one", "b two", "c three")
	status := &registryStatus{503}
	f.opened = func(nth int) error { return map[int]error{1: status}[nth] }
	f.blob = func(_ context.Context, d digest.Digest, nth int, b []byte) (io.Reader, error) {
		switch {
		case d == m.man.Layers[0].Digest && nth == 1:
			return nil, syscall.ECONNRESET
		case d == m.man.Layers[0].Digest && nth == 2:
			return breakAt(b, 20, syscall.ECONNRESET), nil
		case d == m.man.Layers[1].Digest && nth < 3:
			return bytes.NewReader(b[:30]), nil // its end, too early
		case d == m.man.Layers[2].Digest && nth == 1:
			bad := bytes.Clone(b)
			bad[len(bad)/2] ^= 1
			return bytes.NewReader(bad), nil
		case d == m.man.Config.Digest && nth == 1:
			return nil, io.ErrUnexpectedEOF
		}
		return nil, nil
	}
	s := pullStore(t, f)
	got, l, err := pull(t, s, "box:1")
	must(t, err)
	if got.ID != m.id || !l.has(shortDigest(m.man.Layers[0].Digest)+": Retrying in 1 second") {
		t.Errorf("Pull is %+v\n%s", got, strings.Join(l.text(), "\n"))
	}
	sound(t, s)
}

func TestPullGivesUp(t *testing.T) {
	for what, c := range map[string]struct {
		err   error
		times int
		class moss.Class
	}{
		"unauthorized": {moss.Errorf(moss.Unauthorized, "unauthorized"), 1, moss.Unauthorized},
		"forbidden":    {moss.Errorf(moss.Forbidden, "denied"), 1, moss.Forbidden},
		"not found":    {moss.Errorf(moss.NotFound, "blob unknown"), 1, moss.NotFound},
		"reset":        {&moss.Error{Class: moss.Unavailable, Err: syscall.ECONNRESET}, 3, moss.Unavailable},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFakeRegistry()
			m := f.image(t, name("box:1"), "amd64", "oci", nil, "a one")
			f.blob = func(_ context.Context, d digest.Digest, _ int, _ []byte) (io.Reader, error) {
				if d == m.man.Layers[0].Digest {
					return nil, c.err
				}
				return nil, nil
			}
			s := pullStore(t, f)
			s.transfers = transfer.New(transfer.Limits{Attempts: 3}, nil)
			_, _, err := pull(t, s, "box:1")
			if moss.ClassOf(err) != c.class || f.count("blob "+m.man.Layers[0].Digest.String()) != c.times {
				t.Errorf("Pull is %v after %d times", err, f.count("blob "+m.man.Layers[0].Digest.String()))
			}
		})
	}
}

// A pull that is cancelled leaves finished layers and nothing else; the next goes on from there.
func TestPullCancelled(t *testing.T) {
	f := newFakeRegistry()
	m := f.image(t, name("box:1"), "amd64", "oci", nil, "a one", "b two", "c three", "d four")
	stuck := make(chan struct{})
	f.blob = func(ctx context.Context, d digest.Digest, nth int, b []byte) (io.Reader, error) {
		if d == m.man.Layers[2].Digest && nth == 1 {
			return io.MultiReader(bytes.NewReader(b[:20]), readFunc(func([]byte) (int, error) {
				close(stuck)
				<-ctx.Done()
				return 0, ctx.Err()
			})), nil
		}
		return nil, nil
	}
	s := pullStore(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	two := make(chan struct{})
	go func() { <-stuck; <-two; cancel() }()
	complete := 0
	_, err := s.Pull(ctx, moss.PullRequest{Ref: "box:1"}, func(p moss.Progress) {
		if p.Status == "Pull complete" {
			if complete++; complete == 2 {
				close(two)
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Pull is %v", err)
	}
	if len(s.images)+len(s.names) > 0 {
		t.Errorf("there are images: %v", s.images)
	}
	if got, want := unusedLayers(t, s), slices.Sorted(slices.Values(m.chains[:2])); !slices.Equal(got, want) {
		t.Errorf("layers left are %q, want %q", got, want)
	}
	sound(t, s)
	_, l, err := pull(t, s, "box:1")
	must(t, err)
	for i, d := range m.man.Layers {
		times, status := 1, ": Already exists"
		if i >= 2 {
			times, status = 2, ": Pull complete"
		}
		if n := f.count("blob " + d.Digest.String()); n != times || !l.has(shortDigest(d.Digest)+status) {
			t.Errorf("layer %d was asked for %d times\n%s", i, n, strings.Join(l.text(), "\n"))
		}
	}
	if left := unusedLayers(t, s); len(left) > 0 {
		t.Errorf("layers without an image: %q", left)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// fullStager has no room for one layer.
type fullStager struct {
	stager
	diff   digest.Digest
	commit bool
	left   atomic.Int32 // staged, neither committed nor discarded
}

func (f *fullStager) Stage(ctx context.Context, r io.Reader, want layer.Expect) (stagedLayer, error) {
	full := want.DiffID == f.diff
	if full && !f.commit {
		return nil, fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	g, err := f.stager.Stage(ctx, r, want)
	if err != nil {
		return nil, err
	}
	f.left.Add(1)
	return &fullStaged{stagedLayer: g, f: f, full: full}, nil
}

type fullStaged struct {
	stagedLayer
	f    *fullStager
	full bool
}

func (g *fullStaged) Commit(parent string) (string, error) {
	if g.full {
		return "", fmt.Errorf("rename: %w", syscall.ENOSPC)
	}
	g.f.left.Add(-1)
	return g.stagedLayer.Commit(parent)
}

func (g *fullStaged) Discard() error {
	g.f.left.Add(-1)
	return g.stagedLayer.Discard()
}

func TestPullDiskFull(t *testing.T) {
	for _, commit := range []bool{false, true} {
		f := newFakeRegistry()
		m := f.image(t, name("box:1"), "amd64", "oci", nil, "a one", "b two", "c three")
		s := pullStore(t, f)
		full := &fullStager{stager: s.stager, diff: m.config.RootFS.DiffIDs[1], commit: commit}
		s.stager = full
		_, _, err := pull(t, s, "box:1")
		want := `cannot pull "box:1": no space left on the device that holds ` + s.store.GraphRoot()
		if err == nil || err.Error() != want || moss.ClassOf(err) != moss.Internal {
			t.Errorf("Pull is %v, want %s", err, want)
		}
		if n := f.count("blob " + m.man.Layers[1].Digest.String()); n != 1 || full.left.Load() != 0 {
			t.Errorf("tried %d times, %d layers neither here nor there", n, full.left.Load())
		}
		sound(t, s)
		s.stager = full.stager
		_, _, err = pull(t, s, "box:1")
		must(t, err)
	}
}

// Pulls at the same time share what they have in common, and one may leave.
func TestPullsShare(t *testing.T) {
	f := newFakeRegistry()
	a := f.image(t, name("a:1"), "amd64", "oci", nil, "base", "middle", "top a")
	b := f.image(t, name("b:1"), "amd64", "oci", nil, "base", "middle", "top b")
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.blob = func(_ context.Context, d digest.Digest, _ int, data []byte) (io.Reader, error) {
		if d != a.man.Layers[1].Digest {
			return nil, nil
		}
		return io.MultiReader(bytes.NewReader(data[:10]), readFunc(func([]byte) (int, error) {
			once.Do(func() { close(begun) })
			<-goOn
			return 0, io.EOF
		}), bytes.NewReader(data[10:])), nil
	}
	s := pullStore(t, f)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := s.Pull(ctx, moss.PullRequest{Ref: "a:1"}, func(moss.Progress) {})
		left <- err
	}()
	<-begun
	// Now b joins, and twice more a, of which the first leaves.
	joined := make(chan struct{}, 3)
	var wg sync.WaitGroup
	for _, ref := range []string{"b:1", "b:1", "a:1"} {
		wg.Go(func() {
			var told sync.Once
			_, err := s.Pull(t.Context(), moss.PullRequest{Ref: ref}, func(p moss.Progress) {
				if p.ID == shortDigest(a.man.Layers[1].Digest) && p.Status == "Downloading" {
					told.Do(func() { joined <- struct{}{} })
				}
			})
			if err != nil {
				t.Errorf("%s: %v", ref, err)
			}
		})
	}
	for range 3 {
		<-joined
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who left gets %v", err)
	}
	close(goOn)
	wg.Wait()
	for _, d := range slices.Concat(a.man.Layers, b.man.Layers, []imgspec.Descriptor{a.man.Config, b.man.Config}) {
		if n := f.count("blob " + d.Digest.String()); n != 1 {
			t.Errorf("blob %s was asked for %d times", d.Digest, n)
		}
	}
	for ref, m := range map[string]madeImage{"a:1": a, "b:1": b} {
		if im, err := s.Resolve(t.Context(), ref); err != nil || im.ID != m.id {
			t.Errorf("%s is %v, %v", ref, im.ID, err)
		}
		if n := f.count("manifest " + m.manifest.String()); n != 1 {
			t.Errorf("manifest of %s was asked for %d times", ref, n)
		}
	}
	sound(t, s)
}

// Many at once with a limit on downloads, and one who removes what is not needed.
func TestPullsAndCollect(t *testing.T) {
	f := newFakeRegistry()
	var now, most atomic.Int32
	for i := range 6 {
		f.image(t, name(fmt.Sprintf("n%d:1", i)), "amd64", "oci", nil, "base", "middle", fmt.Sprintf("top%d", i), fmt.Sprintf("last%d", i))
	}
	f.blob = func(_ context.Context, d digest.Digest, _ int, b []byte) (io.Reader, error) {
		if strings.HasPrefix(string(b), "{") {
			return nil, nil
		}
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		return io.MultiReader(bytes.NewReader(b), readFunc(func([]byte) (int, error) { now.Add(-1); return 0, io.EOF })), nil
	}
	s := pullStore(t, f)
	s.transfers = transfer.New(transfer.Limits{Downloads: 2}, nil)
	stop, collected := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(collected)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := s.Collect(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 4 {
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				ref := fmt.Sprintf("n%d:1", i)
				got, err := s.Pull(t.Context(), moss.PullRequest{Ref: ref}, func(moss.Progress) {})
				if err != nil {
					t.Error(err)
					return
				}
				must(t, s.Untag(t.Context(), ref))
				if _, err := s.Delete(t.Context(), got[0].ID); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	close(stop)
	<-collected
	_, err := s.Collect(t.Context())
	must(t, err)
	if left := leftovers(t, s); len(left) > 0 || most.Load() > 2 || most.Load() == 0 {
		t.Errorf("left behind: %q; %d downloads at a time", left, most.Load())
	}
	sound(t, s)
}

func TestPullMovesTag(t *testing.T) {
	f := newFakeRegistry()
	old := f.image(t, name("box:latest"), "amd64", "oci", nil, "a old")
	s := pullStore(t, f)
	_, _, err := pull(t, s, "box")
	must(t, err)
	f.image(t, name("box:latest"), "amd64", "oci", nil, "a old", "b new")
	got, _, err := pull(t, s, "box")
	must(t, err)
	was, err := s.Resolve(t.Context(), string(old.id))
	must(t, err)
	if !got.New || len(was.Names) != 0 || !slices.Equal(was.Digests, []string{name("box@" + old.manifest.String())}) {
		t.Errorf("the old image is %+v", was)
	}
	sound(t, s)
}

func TestPullAll(t *testing.T) {
	f := newFakeRegistry()
	f.image(t, name("box:1"), "amd64", "oci", nil, "a one")
	f.image(t, name("box:2"), "amd64", "oci", nil, "a one", "b two")
	s := pullStore(t, f)
	l := &lines{t: t}
	got, err := s.Pull(t.Context(), moss.PullRequest{Ref: name("box"), All: true}, l.add)
	must(t, err)
	if len(got) != 2 || got[0].Ref != name("box:1") || got[1].Ref != name("box:2") || !l.has("Status: Downloaded newer image for box") {
		t.Errorf("Pull is %+v\n%s", got, strings.Join(l.text(), "\n"))
	}
	f.image(t, name("box:3"), "amd64", "oci", func(m *imgspec.Manifest, _ *imgspec.Image) { m.Config.MediaType = "text/x" }, "x")
	got, err = s.Pull(t.Context(), moss.PullRequest{Ref: name("box"), All: true}, l.add)
	if len(got) != 2 || got[0].New || moss.ClassOf(err) != moss.Invalid {
		t.Errorf("with a bad tag: %+v, %v", got, err)
	}
	if _, err := s.Pull(t.Context(), moss.PullRequest{Ref: name("box:1"), All: true}, l.add); moss.ClassOf(err) != moss.Invalid {
		t.Errorf("all tags of a tag: %v", err)
	}
}

func TestPullPolicy(t *testing.T) {
	f := newFakeRegistry()
	m := f.image(t, "", "amd64", "oci", nil, "a one")
	f.putManifest(t, imgspec.MediaTypeImageIndex, imgspec.Index{MediaType: imgspec.MediaTypeImageIndex, Manifests: []imgspec.Descriptor{{Digest: m.manifest, Platform: &imgspec.Platform{OS: "linux", Architecture: "amd64"}}}}, name("box:1"))
	no := moss.Errorf(moss.Forbidden, "the signature policy does not let it in")
	for _, c := range []struct{ part, top, ok bool }{{true, true, true}, {true, false, true}, {false, true, true}, {false, false, false}} {
		f.allowed = func(instance *digest.Digest) error {
			if instance != nil && !c.part || instance == nil && !c.top {
				return no
			}
			return nil
		}
		s := pullStore(t, f)
		before := f.count("blob " + m.man.Layers[0].Digest.String())
		_, _, err := pullFor(t.Context(), t, s, moss.PullRequest{Ref: "box:1", Platform: "linux/amd64"})
		if (err == nil) != c.ok || err != nil && (moss.ClassOf(err) != moss.Forbidden || f.count("blob "+m.man.Layers[0].Digest.String()) != before) {
			t.Errorf("%+v: Pull is %v", c, err)
		}
	}
}

func TestPullAttestations(t *testing.T) {
	f := newFakeRegistry()
	m := f.image(t, "", "amd64", "oci", nil, "a one")
	statement := []byte(`{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","predicate":{}}`)
	d := f.put("application/vnd.in-toto+json", statement)
	d.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	attest := func(layer imgspec.Descriptor) imgspec.Descriptor {
		a := f.putManifest(t, imgspec.MediaTypeImageManifest, imgspec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imgspec.MediaTypeImageManifest, Config: f.put(imgspec.MediaTypeImageConfig, []byte("{}")), Layers: []imgspec.Descriptor{layer}})
		a.Platform = &imgspec.Platform{OS: "unknown", Architecture: "unknown"}
		a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": m.manifest.String()}
		return a
	}
	index := func(tag string, a imgspec.Descriptor) {
		f.putManifest(t, imgspec.MediaTypeImageIndex, imgspec.Index{MediaType: imgspec.MediaTypeImageIndex, Manifests: []imgspec.Descriptor{{MediaType: m.man.MediaType, Digest: m.manifest, Platform: &imgspec.Platform{OS: "linux", Architecture: "amd64"}}, a}}, name(tag))
	}
	index("good:1", attest(d))
	index("lost:1", attest(imgspec.Descriptor{Digest: digest.FromString("lost"), MediaType: d.MediaType, Size: 3}))
	for tag, n := range map[string]int{"good:1": 1, "lost:1": 0} {
		s := pullStore(t, f)
		_, _, err := pullFor(t.Context(), t, s, moss.PullRequest{Ref: tag, Platform: "linux/amd64"})
		must(t, err)
		list, err := s.Attestations(t.Context(), m.id, nil)
		must(t, err)
		if len(list) != n || n > 0 && (!bytes.Equal(list[0].Statement, statement) || list[0].Digest != d.Digest.String()) {
			t.Errorf("%s: %+v", tag, list)
		}
	}
}

// What a process that was killed left in the middle of making an image is gone at the next start.
func TestUnfinishedImages(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	f := newFakeRegistry()
	m := f.image(t, name("box:1"), "amd64", "oci", nil, "a one")
	usePuller(s, f)
	_, _, err := pull(t, s, "box:1")
	must(t, err)
	_, err = s.store.CreateImage(strings.Repeat("1", 64), nil, m.chains[0], halfway, nil)
	must(t, err)
	whole := "sha256:" + strings.Repeat("2", 64)
	_, err = s.store.CreateImage(strings.Repeat("2", 64), nil, m.chains[0], halfway, &storage.ImageOptions{BigData: []storage.ImageBigDataOption{{Key: whole, Data: []byte("{}"), Digest: digest.Digest(whole)}}})
	must(t, err)
	named := "sha256:" + strings.Repeat("3", 64)
	_, err = s.store.CreateImage(strings.Repeat("3", 64), []string{name("n:1")}, m.chains[0], halfway, &storage.ImageOptions{BigData: []storage.ImageBigDataOption{{Key: named, Data: []byte("{}"), Digest: digest.Digest(named)}}})
	must(t, err)
	s.store.Free()
	for range 2 {
		s = open(t, dir)
		list, err := s.List(t.Context())
		must(t, err)
		if len(list) != 2 {
			t.Errorf("there are %d images", len(list))
		}
		if _, ok := s.get(m.id); !ok {
			t.Error("the finished image is gone")
		}
		// One that had its names stays when they are taken away.
		if err := s.Untag(t.Context(), "n:1"); err != nil && moss.ClassOf(err) != moss.NotFound {
			t.Error(err)
		}
		s.store.Free()
	}
	if _, err := os.Stat(filepath.Join(dir, "graph", "overlay", m.chains[0])); err != nil {
		t.Error(err)
	}
}

type registryStatus struct{ code int }

func (r *registryStatus) Error() string { return fmt.Sprint("status ", r.code) }
func (r *registryStatus) Unwrap() error { return syscall.ECONNREFUSED }
