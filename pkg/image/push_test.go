package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	digest "github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	imagereg "github.com/moss-containers/moss/pkg/image/registry"
	"github.com/moss-containers/moss/pkg/image/transfer"
	"github.com/moss-containers/moss/pkg/moss"
	"github.com/moss-containers/moss/tests/registry"
)

// told keeps what progress said.
type told struct {
	mu  sync.Mutex
	all []moss.Progress
}

func (l *told) add(p moss.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, p)
}

// count says for how many layers something was said.
func (l *told) count(status string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]bool{}
	for _, p := range l.all {
		if p.Status == status {
			ids[p.ID] = true
		}
	}
	return len(ids)
}

// online opens a store that reaches registries without any of the machine's settings.
func online(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	c, err := imagereg.New(imagereg.Options{ConfigDir: filepath.Join(dir, "config"), EtcDir: filepath.Join(dir, "etc"), TempDir: filepath.Join(dir, "registry")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(rawStore(t, dir), Options{TempDir: filepath.Join(dir, "tmp"), Registry: c, Limits: transfer.Limits{Downloads: 3, Uploads: 5, Attempts: 3}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustPull(t *testing.T, s *Store, ref string) moss.ImageID {
	t.Helper()
	got, err := s.Pull(t.Context(), moss.PullRequest{Ref: ref}, func(moss.Progress) {})
	if err != nil {
		t.Fatal(err)
	}
	return got[0].ID
}

func mustPush(t *testing.T, s *Store, r moss.PushRequest) ([]moss.PushedImage, *told) {
	t.Helper()
	var l told
	sent, err := s.Push(t.Context(), r, l.add)
	if err != nil {
		t.Fatal(err)
	}
	return sent, &l
}

// What was pulled and goes to another repository of the same registry keeps
// its manifest, and no layer is sent.
func TestPushKeepsManifest(t *testing.T) {
	r := registry.New(t, registry.Options{})
	p := registry.NewProxy(t, r)
	s := online(t)
	zstd := registry.Layers(2, 1<<16)
	zstd[1].Zstd = true
	for name, im := range map[string]registry.Image{
		"docker": {Docker: true, Layers: registry.Layers(3, 1<<16)},
		"oci":    {Layers: registry.Layers(3, 1<<16)},
		"zstd":   {Layers: zstd},
	} {
		made := r.Remote().Push(t, "from/"+name, "v1", im)
		id := mustPull(t, s, p.Host+"/from/"+name+":v1")
		if _, err := s.Tag(t.Context(), id, p.Host+"/to/"+name+":v2"); err != nil {
			t.Fatal(err)
		}
		p.Heal()
		sent, l := mustPush(t, s, moss.PushRequest{Ref: p.Host + "/to/" + name + ":v2"})
		if len(sent) != 1 || sent[0].Digest != made.Digest.String() || sent[0].Size != made.Size || sent[0].Tag != "v2" {
			t.Errorf("%s: sent %+v, want %s", name, sent, made.Digest)
		}
		body, kind, err := r.Remote().Manifest("to/"+name, "v2")
		if err != nil || !bytes.Equal(body, made.Body) || kind != made.Kind {
			t.Errorf("%s: %v, %s\n%s", name, err, kind, body)
		}
		if n := l.count("Mounted from from/" + name); n != len(im.Layers) || p.Count("PATCH", "/blobs/") != 1 { // the configuration
			t.Errorf("%s: %d mounted, %d sent: %+v", name, n, p.Count("PATCH", "/blobs/"), l.all)
		}
		if l.all[0].Status != "The push refers to repository ["+p.Host+"/to/"+name+"]" || l.all[len(l.all)-1].Status != "v2: digest: "+made.Digest.String()+" size: "+itoa(made.Size) {
			t.Errorf("%s: progress %+v", name, l.all)
		}
		// The name with the digest is there, as with docker, also for the next process.
		im, err := s.Resolve(t.Context(), p.Host+"/to/"+name+"@"+made.Digest.String())
		if err != nil || im.ID != id {
			t.Errorf("%s: %v", name, err)
		}
		p.Heal()
		if _, l := mustPush(t, s, moss.PushRequest{Ref: p.Host + "/to/" + name + ":v2"}); l.count("Layer already exists") != len(made.Layers) || p.Count("POST", "") != 0 {
			t.Errorf("%s: pushed again: %+v", name, l.all)
		}
	}
}

func itoa(n int64) string { b, _ := json.Marshal(n); return string(b) }

// An image that was never at a registry is sent, its layers with gzip; what a
// second image shares with it is not sent again.
func TestPushNew(t *testing.T) {
	r := registry.New(t, registry.Options{Users: map[string]string{"alice": "secret"}})
	cred := moss.Credentials{Username: "alice", Password: "secret"}
	s := online(t)
	base, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, "one")), moss.ImportOptions{Reference: r.Host + "/one:v1"})
	if err != nil {
		t.Fatal(err)
	}
	sent, l := mustPush(t, s, moss.PushRequest{Ref: r.Host + "/one:v1", Credentials: cred})
	if l.count("Pushed") != 1 || l.count("Preparing") != 1 {
		t.Errorf("progress %+v", l.all)
	}
	body, _, err := r.Remote().Manifest("one", "v1")
	if err != nil {
		t.Fatal(err)
	}
	var m imgspec.Manifest
	if err := json.Unmarshal(body, &m); err != nil || m.Layers[0].MediaType != imgspec.MediaTypeImageLayerGzip || m.Config.Digest.String() != string(base.ID) {
		t.Errorf("%v %s", err, body)
	}
	if sent[0].Digest != digest.FromBytes(body).String() {
		t.Errorf("sent %+v", sent)
	}
	second, err := s.Make(t.Context(), moss.NewImage{Base: base.ID, Reference: r.Host + "/two:v1"}, bytes.NewReader(tarOf(t, "two")))
	if err != nil {
		t.Fatal(err)
	}
	if _, l = mustPush(t, s, moss.PushRequest{Ref: r.Host + "/two:v1", Credentials: cred}); l.count("Mounted from one") != 1 || l.count("Pushed") != 1 {
		t.Errorf("progress %+v", l.all)
	}
	// So does skopeo, byte for byte.
	dir := t.TempDir()
	out, err := exec.Command("skopeo", "--insecure-policy", "--registries.d", noSignatures(t), "copy", "--src-tls-verify=false", "--src-creds=alice:secret", "docker://"+r.Host+"/two:v1", "dir:"+dir).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	theirs, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	ours, _, err2 := r.Remote().Manifest("two", "v1")
	if err != nil || err2 != nil || !bytes.Equal(theirs, ours) {
		t.Errorf("%v %v", err, err2)
	}
	// Another store gets the same image.
	other := online(t)
	got, err := other.Pull(t.Context(), moss.PullRequest{Ref: r.Host + "/two:v1", Credentials: cred}, func(moss.Progress) {})
	if err != nil || got[0].ID != second {
		t.Errorf("%+v %v", got, err)
	}
}

func TestPushAllTags(t *testing.T) {
	r := registry.New(t, registry.Options{})
	s := online(t)
	for _, tag := range []string{"a", "b"} {
		if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, tag)), moss.ImportOptions{Reference: r.Host + "/x:" + tag}); err != nil {
			t.Fatal(err)
		}
	}
	sent, _ := mustPush(t, s, moss.PushRequest{Ref: r.Host + "/x", All: true})
	if len(sent) != 2 || sent[0].Tag != "a" || sent[1].Tag != "b" {
		t.Errorf("%+v", sent)
	}
}

func TestPushRefuses(t *testing.T) {
	r := registry.New(t, registry.Options{Users: map[string]string{"alice": "secret"}})
	s := online(t)
	if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, "x")), moss.ImportOptions{Reference: r.Host + "/x:v1", OS: "linux", Architecture: "s390x"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		req   moss.PushRequest
		class moss.Class
		words string
	}{
		{moss.PushRequest{Ref: r.Host + "/y:v1"}, moss.NotFound, "An image does not exist locally with the tag: " + r.Host + "/y"},
		{moss.PushRequest{Ref: r.Host + "/y", All: true}, moss.NotFound, "An image does not exist locally with the tag: " + r.Host + "/y"},
		{moss.PushRequest{Ref: r.Host + "/x:v1", All: true}, moss.Invalid, "tag can't be used with --all-tags/-a"},
		{moss.PushRequest{Ref: r.Host + "/x:v1", Platform: "linux/arm64"}, moss.NotFound, "does not provide the specified platform (linux/arm64"},
		{moss.PushRequest{Ref: r.Host + "/x@" + digest.FromString("").String()}, moss.Invalid, "cannot push a digest reference"},
		{moss.PushRequest{Ref: r.Host + "/x:v1"}, moss.Unauthorized, "unauthorized: authentication required"},
		{moss.PushRequest{Ref: r.Host + "/X"}, moss.Invalid, "invalid reference format"},
	} {
		if _, err := s.Push(t.Context(), c.req, func(moss.Progress) {}); err == nil || moss.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%+v: %v (%v), want %q", c.req, err, moss.ClassOf(err), c.words)
		}
	}
}

// A registry that stumbles is asked again; one that breaks a layer off gets it from the beginning.
func TestPushRetries(t *testing.T) {
	r := registry.New(t, registry.Options{})
	p := registry.NewProxy(t, r)
	s := online(t)
	if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, "x")), moss.ImportOptions{Reference: p.Host + "/x:v1"}); err != nil {
		t.Fatal(err)
	}
	p.Fault(registry.Fault{Method: "PATCH", Path: "/blobs/", Times: 1, DropAfter: -1})
	p.Fault(registry.Fault{Method: "PUT", Path: "/manifests/", Times: 1, Status: 503})
	p.Fault(registry.Fault{Method: "POST", Path: "/blobs/", Times: 1, Status: 500})
	sent, l := mustPush(t, s, moss.PushRequest{Ref: p.Host + "/x:v1"})
	if len(sent) != 1 || l.count("Retrying in 1 second") != 1 {
		t.Errorf("%+v %+v", sent, l.all)
	}
	// A wrong word does not come right by itself.
	p.Heal()
	p.Fault(registry.Fault{Method: "PUT", Path: "/manifests/", Status: 403})
	_, err := s.Push(t.Context(), moss.PushRequest{Ref: p.Host + "/x:v1"}, func(moss.Progress) {})
	if moss.ClassOf(err) != moss.Forbidden || p.Count("PUT", "/manifests/") != 1 {
		t.Errorf("%v after %d", err, p.Count("PUT", "/manifests/"))
	}
}

func TestPushCancelled(t *testing.T) {
	r := registry.New(t, registry.Options{})
	p := registry.NewProxy(t, r)
	s := online(t)
	if _, err := s.Import(t.Context(), bytes.NewReader(tarOf(t, "x")), moss.ImportOptions{Reference: p.Host + "/x:v1"}); err != nil {
		t.Fatal(err)
	}
	p.Fault(registry.Fault{Method: "POST", Path: "/blobs/", Delay: 1 << 40})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Push(ctx, moss.PushRequest{Ref: p.Host + "/x:v1"}, func(p moss.Progress) {
		if p.Status == "Preparing" {
			cancel()
		}
	})
	if ctx.Err() == nil || moss.ClassOf(err) != moss.Unavailable || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("%v", err)
	}
	if _, _, err := r.Remote().Manifest("x", "v1"); err == nil {
		t.Error("half an image is there")
	}
}

// A layer that may not be pushed stays where it is.
func TestForeign(t *testing.T) {
	if !isForeign(imgspec.Descriptor{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", URLs: []string{"https://example.com"}}) {
		t.Error("a foreign layer is none")
	}
	if isForeign(imgspec.Descriptor{MediaType: imgspec.MediaTypeImageLayerGzip, URLs: []string{"https://example.com"}}) {
		t.Error("a layer with an URL is foreign")
	}
	list := addKnown(nil, knownBlob{imgspec.Descriptor{Digest: "sha256:a"}, []string{"x"}})
	list = addKnown(list, knownBlob{imgspec.Descriptor{Digest: "sha256:a"}, []string{"y", "x"}})
	if len(list) != 1 || !slices.Equal(list[0].repos, []string{"x", "y"}) {
		t.Errorf("%+v", list)
	}
}

// tarOf is the file system of an image of one file.
func tarOf(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: text, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noSignatures configures skopeo, which takes the root of a namespace for the
// machine's, not to look for signatures where only that one may.
func noSignatures(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text := "default-docker:\n  sigstore: file://" + t.TempDir() + "\n"
	if err := os.WriteFile(filepath.Join(dir, "default.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
