package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/moss-containers/moss/tests/registry"
)

// hostileLayers are layers that want out, or too much. VICTIM is a directory
// that belongs to the user whose engine it is.
func hostileLayers(t *testing.T, victim string) map[string][]byte {
	t.Helper()
	pack := func(entries ...tar.Header) []byte {
		b, err := os.ReadFile(tarFile(t, filepath.Join(t.TempDir(), "l"), entries...))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	up := strings.Repeat("../", 12) + strings.TrimPrefix(victim, "/")
	ring := []tar.Header{{Name: "l0", Typeflag: tar.TypeSymlink, Linkname: "l1"}}
	for i := range 60 {
		ring = append(ring, tar.Header{Name: fmt.Sprintf("l%d", i+1), Typeflag: tar.TypeSymlink, Linkname: fmt.Sprintf("l%d/l%d", i+2, i+2)})
	}
	claim := pack(tar.Header{Name: "f", Linkname: "x"})
	// A size of 10 GB, in base 256.
	start := bytes.Index(claim, []byte("ustar")) - 257
	copy(claim[start+124:], []byte{0x80, 0, 0, 0, 0, 0, 0, 2, 0x54, 0x0b, 0xe4, 0})
	sum := 8 * int(' ')
	for i, c := range claim[start : start+512] {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(claim[start+148:], fmt.Sprintf("%06o\x00 ", sum))
	return map[string][]byte{
		"dot dot":            pack(tar.Header{Name: up + "/new", Linkname: "bad"}),
		"dot dot inside":     pack(tar.Header{Name: "a/../../" + up + "/new", Linkname: "bad"}),
		"absolute dot dot":   pack(tar.Header{Name: "/../../" + up + "/new", Linkname: "bad"}),
		"hard link up":       pack(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: up + "/file"}, tar.Header{Name: "l", Linkname: "bad"}),
		"hard link out":      pack(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: victim + "/file"}),
		"hard link by link":  pack(tar.Header{Name: "v", Typeflag: tar.TypeSymlink, Linkname: victim}, tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "v/file"}),
		"links without end":  pack(append(ring, tar.Header{Name: "l0/f", Linkname: "bad"})...),
		"10 GB in a kB":      claim,
		"whiteout up":        pack(tar.Header{Name: "a/", Typeflag: tar.TypeDir}, tar.Header{Name: "a/.wh..."}),
		"whiteout out":       pack(tar.Header{Name: up + "/.wh.file"}),
		"no tar":             bytes.Repeat([]byte("not a tar "), 1000),
		"an owner of nobody": pack(tar.Header{Name: "f", Uid: 1<<32 - 1}),
	}
}

// Hostile images are refused by load, import and pull, which touch nothing
// outside, leave nothing and need no memory to speak of.
func TestHostile(t *testing.T) {
	leakFree(t)
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.Mkdir(victim, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(victim, "file"), []byte("safe"), 0o600); err != nil {
		t.Fatal(err)
	}
	safe := func() string { return treeOf(t, victim) + must(t, "stat", "-c", "%n %h %Y %Z", victim, victim+"/file") }
	r := registry.New(t, registry.Options{})
	outside, inside, memory := safe(), imageFiles(t), peak(t)
	images := must(t, "docker", "images", "--all", "--quiet", "--no-trunc", "--digests")
	refused := func(t *testing.T, words string, args ...string) {
		t.Helper()
		start := time.Now()
		out, err := suite.output(args[0], args[1:]...)
		if err == nil {
			t.Fatalf("%q is taken: %s", args, out)
		}
		if !regexp.MustCompile(words).MatchString(err.Error()) || len(err.Error()) > 2000 {
			t.Errorf("%q: %v; want %s", args, err, words)
		}
		if d := time.Since(start); d > patience {
			t.Errorf("%q took %s", args, d)
		}
		if now := safe(); now != outside {
			t.Errorf("the outside was touched:\n%s\nnow\n%s", outside, now)
		}
	}
	n := 0
	for name, layer := range hostileLayers(t, victim) {
		t.Run(name, func(t *testing.T) {
			n++
			l, archive := filepath.Join(dir, "layer.tar"), filepath.Join(dir, "image.tar")
			if err := os.WriteFile(l, layer, 0o600); err != nil {
				t.Fatal(err)
			}
			writeDockerArchive(t, archive, "hostile:1", []string{l})
			refused(t, "cannot load the archive: ", "docker", "load", "-i", archive)
			refused(t, "cannot import the root file system: ", "docker", "import", l, "hostile:2")
			repo := "hostile" + strconv.Itoa(n)
			r.Remote().Push(t, repo, "1", registry.Image{Layers: []registry.Layer{{Size: 1000, Seed: 5}, {Tar: layer}}})
			refused(t, "cannot pull .*filesystem layer verification failed", "docker", "pull", r.Host+"/"+repo+":1")
		})
	}
	t.Run("wrong digests", func(t *testing.T) { wrongDigests(t, r, dir, refused) })

	if got := must(t, "docker", "images", "--all", "--quiet", "--no-trunc", "--digests"); got != images {
		t.Errorf("images were\n%s\nand are\n%s", images, got)
	}
	must(t, "docker", "image", "prune", "-f") // the good layers of pulls
	if got := imageFiles(t); got != inside {
		t.Errorf("the store had\n%s\nand has\n%s", inside, got)
	}
	if grown := peak(t) - memory; grown > 64<<10 {
		t.Errorf("the daemon needed %d kB more", grown)
	} else {
		t.Logf("the daemon's peak grew by %d kB to %d kB", grown, peak(t))
	}
}

// wrongDigests are manifests, configurations and archives that say something
// else than there is.
func wrongDigests(t *testing.T, r *registry.Registry, dir string, refused func(*testing.T, string, ...string)) {
	m := r.Remote()
	good := tarFile(t, filepath.Join(dir, "good.tar"), tar.Header{Name: "f", Linkname: "x"})
	other := tarFile(t, filepath.Join(dir, "other.tar"), tar.Header{Name: "f", Linkname: "y"})
	body, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	// The configuration has another diff id than the layer.
	config := jsonOf(t, imgspec.Image{
		Platform: imgspec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		RootFS:   imgspec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString("other")}},
	})
	put := func(kind string, b []byte) imgspec.Descriptor {
		d, err := m.Blob("wrong", kind, b)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	man := imgspec.Manifest{MediaType: imgspec.MediaTypeImageManifest, Config: put(imgspec.MediaTypeImageConfig, config), Layers: []imgspec.Descriptor{put(imgspec.MediaTypeImageLayer, body)}}
	man.SchemaVersion = 2
	if _, _, err := m.Do(http.MethodPut, "/v2/wrong/manifests/diff", man.MediaType, jsonOf(t, man)); err != nil {
		t.Fatal(err)
	}
	refused(t, "filesystem layer verification failed", "docker", "pull", r.Host+"/wrong:diff")

	// What comes is not what the manifest says, every time.
	made := m.Push(t, "wrong", "1", registry.Image{Layers: []registry.Layer{{Size: 100_000, Seed: 6}}})
	p := registry.NewProxy(t, r)
	p.Fault(registry.Fault{Path: "/blobs/" + made.Layers[0].Digest.String(), Corrupt: 500})
	refused(t, "filesystem layer verification failed", "docker", "pull", p.Host+"/wrong:1")
	p.Heal()
	p.Fault(registry.Fault{Path: "/blobs/" + made.Config.String(), Corrupt: 5})
	refused(t, "does not have that digest", "docker", "pull", p.Host+"/wrong:1")
	p.Heal()
	p.Fault(registry.Fault{Path: "/manifests/", Corrupt: 30})
	refused(t, "cannot pull", "docker", "pull", p.Host+"/wrong@"+made.Digest.String())
	p.Heal()

	// An archive whose layer is another one.
	archive := filepath.Join(dir, "wrong.tar")
	writeDockerArchive(t, archive, "hostile:3", []string{good})
	b, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, body) || sha256.Sum256(body) == sha256.Sum256(changed) {
		t.Fatal("nothing is changed")
	}
	if err := os.WriteFile(archive, bytes.Replace(b, body, changed, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, "cannot load the archive: .*digest|diff id", "docker", "load", "-i", archive)
}

// imageFiles names what the engine has on disk for images.
func imageFiles(t *testing.T) string {
	t.Helper()
	// Layers go behind the answer.
	var last string
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		now := must(t, "unshare", "--user", "--map-auto", "--map-root-user", "sh", "-c",
			"cd "+filepath.Join(suite.top, "data", prefix)+" && find storage/overlay storage/overlay-* tmp -mindepth 1 -maxdepth 2 ! -path 'storage/overlay/*/*' ! -name '*.json' ! -name '*.lock' ! -name '.tmp-*' ! '(' -type d -empty ')' | sort")
		if now == last || time.Now().After(deadline) {
			return now
		}
		last = now
	}
}

// peak is the most memory the daemon ever had, in kB.
func peak(t *testing.T) int {
	t.Helper()
	pid := must(t, "systemctl", "--user", "show", "--property=MainPID", "--value", prefix+".service")
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatal("the daemon has no VmHWM")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
